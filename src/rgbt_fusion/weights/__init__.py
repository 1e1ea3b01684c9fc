"""Weights in and out of files, and the trained weights that ship."""

from rgbt_fusion.weights.checkpoints import CheckpointError as CheckpointError
from rgbt_fusion.weights.checkpoints import LoadReport as LoadReport
from rgbt_fusion.weights.checkpoints import convert_checkpoint as convert_checkpoint
from rgbt_fusion.weights.checkpoints import fitting_preset as fitting_preset
from rgbt_fusion.weights.checkpoints import load_checkpoint as load_checkpoint
from rgbt_fusion.weights.checkpoints import load_model as load_model
from rgbt_fusion.weights.checkpoints import save_checkpoint as save_checkpoint
from rgbt_fusion.weights.download import fetch_weights as fetch_weights
from rgbt_fusion.weights.pretrained import PRETRAINED as PRETRAINED
from rgbt_fusion.weights.pretrained import create_model as create_model
