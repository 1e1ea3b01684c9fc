"""Training and distillation: configuration, sampling, objective, and resuming after a kill."""

from rgbt_fusion.training.checkpoints import TrainingError as TrainingError
from rgbt_fusion.training.config import AugmentationConfig as AugmentationConfig
from rgbt_fusion.training.config import DataConfig as DataConfig
from rgbt_fusion.training.config import LossConfig as LossConfig
from rgbt_fusion.training.config import MoreData as MoreData
from rgbt_fusion.training.config import OptimiserConfig as OptimiserConfig
from rgbt_fusion.training.config import TrainConfig as TrainConfig
from rgbt_fusion.training.config import ValidationConfig as ValidationConfig
from rgbt_fusion.training.config import config_from_table as config_from_table
from rgbt_fusion.training.config import config_to_table as config_to_table
from rgbt_fusion.training.config import list_recipes as list_recipes
from rgbt_fusion.training.config import read_config as read_config
from rgbt_fusion.training.config import read_table as read_table
from rgbt_fusion.training.distillation import DistillConfig as DistillConfig
from rgbt_fusion.training.distillation import distill as distill
from rgbt_fusion.training.interruption import TrainingStopped as TrainingStopped
from rgbt_fusion.training.logs import Progress as Progress
from rgbt_fusion.training.loop import TrainResult as TrainResult
from rgbt_fusion.training.loop import train as train
