"""Fusion layers for RGB-thermal tracking, and the complete trackers they come from."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from rgbt_fusion.checks import BackendUnavailableError as BackendUnavailableError
    from rgbt_fusion.checks import ShapeError as ShapeError
    from rgbt_fusion.data.annotations import DataError as DataError
    from rgbt_fusion.data.dataset_check import check_dataset as check_dataset
    from rgbt_fusion.data.sequences import open_dataset as open_dataset
    from rgbt_fusion.data.sequences import open_sequence as open_sequence
    from rgbt_fusion.evaluation.evaluate import IncompleteResultsError as IncompleteResultsError
    from rgbt_fusion.evaluation.evaluate import load_benchmark as load_benchmark
    from rgbt_fusion.evaluation.evaluate import score as score
    from rgbt_fusion.evaluation.report import write_report as write_report
    from rgbt_fusion.evaluation.results import read_results as read_results
    from rgbt_fusion.evaluation.run import run_tracker as run_tracker
    from rgbt_fusion.export.agreement import ExportError as ExportError
    from rgbt_fusion.export.agreement import ExportReport as ExportReport
    from rgbt_fusion.export.int8 import export_int8 as export_int8
    from rgbt_fusion.export.onnx_file import export_onnx as export_onnx
    from rgbt_fusion.export.program import export_program as export_program
    from rgbt_fusion.layers.attention_fusion import AllLayerSelfAttention as AllLayerSelfAttention
    from rgbt_fusion.layers.attention_fusion import CrossAttentionFusion as CrossAttentionFusion
    from rgbt_fusion.layers.candidate_elimination import CandidateElimination as CandidateElimination
    from rgbt_fusion.layers.candidate_elimination import EliminatedStreams as EliminatedStreams
    from rgbt_fusion.layers.candidate_elimination import EliminatedTokens as EliminatedTokens
    from rgbt_fusion.layers.candidate_elimination import EliminationBlock as EliminationBlock
    from rgbt_fusion.layers.candidate_elimination import JointCandidateElimination as JointCandidateElimination
    from rgbt_fusion.layers.candidate_elimination import restore_tokens as restore_tokens
    from rgbt_fusion.layers.candidate_elimination import scheduled_keep_ratio as scheduled_keep_ratio
    from rgbt_fusion.layers.candidate_elimination import template_mask as template_mask
    from rgbt_fusion.layers.compensation import CompensatedStreams as CompensatedStreams
    from rgbt_fusion.layers.compensation import CrossModalCompensation as CrossModalCompensation
    from rgbt_fusion.layers.compensation import GatedCrossModalCompensation as GatedCrossModalCompensation
    from rgbt_fusion.layers.compensation import TwoWayCompensation as TwoWayCompensation
    from rgbt_fusion.layers.difference_fusion_mamba import DFM as DFM
    from rgbt_fusion.layers.difference_fusion_mamba import DifferenceFusionMamba as DifferenceFusionMamba
    from rgbt_fusion.layers.difference_fusion_mamba import FusedStreams as FusedStreams
    from rgbt_fusion.layers.efficient_multiscale_attention import (
        EfficientMultiscaleAttention as EfficientMultiscaleAttention,
    )
    from rgbt_fusion.layers.mamba import MambaBlock as MambaBlock
    from rgbt_fusion.layers.mutual_prompter import MutualPrompter as MutualPrompter
    from rgbt_fusion.layers.mutual_prompter import MutualPrompts as MutualPrompts
    from rgbt_fusion.layers.order_dynamic_fusion_mamba import OFM as OFM
    from rgbt_fusion.layers.order_dynamic_fusion_mamba import OrderDynamicFusionMamba as OrderDynamicFusionMamba
    from rgbt_fusion.layers.progressive_interaction import CMI as CMI
    from rgbt_fusion.layers.progressive_interaction import MAF as MAF
    from rgbt_fusion.layers.progressive_interaction import TMR as TMR
    from rgbt_fusion.layers.progressive_interaction import TPI as TPI
    from rgbt_fusion.layers.progressive_interaction import CrossModalityInteraction as CrossModalityInteraction
    from rgbt_fusion.layers.progressive_interaction import ModalityAwareFusion as ModalityAwareFusion
    from rgbt_fusion.layers.progressive_interaction import ProgressiveInteraction as ProgressiveInteraction
    from rgbt_fusion.layers.progressive_interaction import ProgressiveInteractionOutput as ProgressiveInteractionOutput
    from rgbt_fusion.layers.progressive_interaction import ReweightedStreams as ReweightedStreams
    from rgbt_fusion.layers.progressive_interaction import TemporalModalityReweighting as TemporalModalityReweighting
    from rgbt_fusion.layers.progressive_interaction import TMRState as TMRState
    from rgbt_fusion.layers.transformer import Attention as Attention
    from rgbt_fusion.layers.transformer import AttentionWithScores as AttentionWithScores
    from rgbt_fusion.layers.transformer import EncoderBlock as EncoderBlock
    from rgbt_fusion.layers.transformer import PatchEmbed as PatchEmbed
    from rgbt_fusion.layers.transformer import ScoredTokens as ScoredTokens
    from rgbt_fusion.losses.distillation import FeatureDistillationLoss as FeatureDistillationLoss
    from rgbt_fusion.losses.distillation import HierarchicalDistillationLoss as HierarchicalDistillationLoss
    from rgbt_fusion.losses.distillation import ResponseDistillationLoss as ResponseDistillationLoss
    from rgbt_fusion.losses.localization import LocalizationLoss as LocalizationLoss
    from rgbt_fusion.losses.localization import focal_heatmap_loss as focal_heatmap_loss
    from rgbt_fusion.losses.localization import gaussian_label as gaussian_label
    from rgbt_fusion.models import TPMRI as TPMRI
    from rgbt_fusion.models import AINet as AINet
    from rgbt_fusion.models import CompensationTracker as CompensationTracker
    from rgbt_fusion.models import EncoderSettings as EncoderSettings
    from rgbt_fusion.models import Encoding as Encoding
    from rgbt_fusion.models import ImagePair as ImagePair
    from rgbt_fusion.models import ModelOutput as ModelOutput
    from rgbt_fusion.models import MutualPromptTeacher as MutualPromptTeacher
    from rgbt_fusion.models import OneStreamStudent as OneStreamStudent
    from rgbt_fusion.models import OSTrack as OSTrack
    from rgbt_fusion.models import TrackerModel as TrackerModel
    from rgbt_fusion.models import TrackingNetwork as TrackingNetwork
    from rgbt_fusion.models import TwoStream as TwoStream
    from rgbt_fusion.models import create_model as create_model
    from rgbt_fusion.models import list_models as list_models
    from rgbt_fusion.models.checkpoints import CheckpointError as CheckpointError
    from rgbt_fusion.models.checkpoints import LoadReport as LoadReport
    from rgbt_fusion.models.checkpoints import convert_checkpoint as convert_checkpoint
    from rgbt_fusion.models.checkpoints import load_checkpoint as load_checkpoint
    from rgbt_fusion.models.checkpoints import load_model as load_model
    from rgbt_fusion.models.checkpoints import save_checkpoint as save_checkpoint
    from rgbt_fusion.models.tpmri import TPMRIState as TPMRIState
    from rgbt_fusion.ops._dispatch import backend_report as backend_report
    from rgbt_fusion.ops.causal_conv1d import causal_conv1d as causal_conv1d
    from rgbt_fusion.ops.causal_conv1d import ordered_causal_conv1d as ordered_causal_conv1d
    from rgbt_fusion.ops.selective_scan import OrderedScan as OrderedScan
    from rgbt_fusion.ops.selective_scan import ordered_selective_scan as ordered_selective_scan
    from rgbt_fusion.ops.selective_scan import selective_scan as selective_scan
    from rgbt_fusion.tracking.tracker import Tracker as Tracker
    from rgbt_fusion.tracking.tracker import TrackResult as TrackResult

_MODULES = {
    "checks": ("BackendUnavailableError", "ShapeError"),
    "ops._dispatch": ("backend_report",),
    "ops.causal_conv1d": ("causal_conv1d", "ordered_causal_conv1d"),
    "ops.selective_scan": ("OrderedScan", "ordered_selective_scan", "selective_scan"),
    "layers.transformer": ("Attention", "AttentionWithScores", "EncoderBlock", "PatchEmbed", "ScoredTokens"),
    "layers.mamba": ("MambaBlock",),
    "layers.difference_fusion_mamba": ("DFM", "DifferenceFusionMamba", "FusedStreams"),
    "layers.order_dynamic_fusion_mamba": ("OFM", "OrderDynamicFusionMamba"),
    "layers.efficient_multiscale_attention": ("EfficientMultiscaleAttention",),
    "layers.progressive_interaction": (
        "CMI",
        "CrossModalityInteraction",
        "MAF",
        "ModalityAwareFusion",
        "ProgressiveInteraction",
        "ProgressiveInteractionOutput",
        "ReweightedStreams",
        "TMR",
        "TMRState",
        "TPI",
        "TemporalModalityReweighting",
    ),
    "layers.mutual_prompter": ("MutualPrompter", "MutualPrompts"),
    "layers.candidate_elimination": (
        "CandidateElimination",
        "EliminatedStreams",
        "EliminatedTokens",
        "EliminationBlock",
        "JointCandidateElimination",
        "restore_tokens",
        "scheduled_keep_ratio",
        "template_mask",
    ),
    "layers.compensation": (
        "CompensatedStreams",
        "CrossModalCompensation",
        "GatedCrossModalCompensation",
        "TwoWayCompensation",
    ),
    "layers.attention_fusion": ("AllLayerSelfAttention", "CrossAttentionFusion"),
    "losses.distillation": ("FeatureDistillationLoss", "HierarchicalDistillationLoss", "ResponseDistillationLoss"),
    "losses.localization": ("LocalizationLoss", "focal_heatmap_loss", "gaussian_label"),
    "models": (
        "AINet",
        "CompensationTracker",
        "EncoderSettings",
        "Encoding",
        "ImagePair",
        "ModelOutput",
        "MutualPromptTeacher",
        "OSTrack",
        "OneStreamStudent",
        "TPMRI",
        "TrackerModel",
        "TrackingNetwork",
        "TwoStream",
        "create_model",
        "list_models",
    ),
    "models.checkpoints": (
        "CheckpointError",
        "LoadReport",
        "convert_checkpoint",
        "load_checkpoint",
        "load_model",
        "save_checkpoint",
    ),
    "models.tpmri": ("TPMRIState",),
    "data.annotations": ("DataError",),
    "data.dataset_check": ("check_dataset",),
    "data.sequences": ("open_dataset", "open_sequence"),
    "tracking.tracker": ("TrackResult", "Tracker"),
    "evaluation.evaluate": ("IncompleteResultsError", "load_benchmark", "score"),
    "evaluation.report": ("write_report",),
    "evaluation.results": ("read_results",),
    "evaluation.run": ("run_tracker",),
    "export.agreement": ("ExportError", "ExportReport"),
    "export.int8": ("export_int8",),
    "export.onnx_file": ("export_onnx",),
    "export.program": ("export_program",),
}
"""Where the public names live; a module is imported when one of its names is first asked for."""

_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = ["__version__", *_HOME]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
