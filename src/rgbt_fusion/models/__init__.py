"""The tracking models: one file per tracker, and the presets that build them by name."""

from rgbt_fusion.frames.types import ImagePair as ImagePair
from rgbt_fusion.models.ainet import AINet as AINet
from rgbt_fusion.models.compensation_tracker import CompensationTracker as CompensationTracker
from rgbt_fusion.models.encoder import EncoderSettings as EncoderSettings
from rgbt_fusion.models.interface import Encoding as Encoding
from rgbt_fusion.models.interface import LayerTokens as LayerTokens
from rgbt_fusion.models.interface import ModelOutput as ModelOutput
from rgbt_fusion.models.interface import ModelState as ModelState
from rgbt_fusion.models.interface import TemplateTokens as TemplateTokens
from rgbt_fusion.models.interface import TrackerModel as TrackerModel
from rgbt_fusion.models.mutual_prompt import MutualPromptTeacher as MutualPromptTeacher
from rgbt_fusion.models.mutual_prompt import OneStreamStudent as OneStreamStudent
from rgbt_fusion.models.network import TrackingNetwork as TrackingNetwork
from rgbt_fusion.models.ostrack import OSTrack as OSTrack
from rgbt_fusion.models.presets import MODELS as MODELS
from rgbt_fusion.models.presets import list_models as list_models
from rgbt_fusion.models.tpmri import TPMRI as TPMRI
from rgbt_fusion.models.tpmri import TPMRIState as TPMRIState
from rgbt_fusion.models.two_stream import TwoStream as TwoStream
from rgbt_fusion.models.walk import Call as Call
from rgbt_fusion.models.walk import Walk as Walk
