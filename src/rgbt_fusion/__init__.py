"""Fusion layers for RGB-thermal tracking, and the complete trackers they come from."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.3.0.dev0"

if TYPE_CHECKING:
    from rgbt_fusion import alignment as alignment
    from rgbt_fusion import benchmarking as benchmarking
    from rgbt_fusion import boxes as boxes
    from rgbt_fusion import checks as checks
    from rgbt_fusion import cli as cli
    from rgbt_fusion import compat as compat
    from rgbt_fusion import data as data
    from rgbt_fusion import evaluation as evaluation
    from rgbt_fusion import export as export
    from rgbt_fusion import files as files
    from rgbt_fusion import frames as frames
    from rgbt_fusion import layers as layers
    from rgbt_fusion import losses as losses
    from rgbt_fusion import models as models
    from rgbt_fusion import ops as ops
    from rgbt_fusion import shapes as shapes
    from rgbt_fusion import synthetic as synthetic
    from rgbt_fusion import tracking as tracking
    from rgbt_fusion import training as training
    from rgbt_fusion import typed_module as typed_module
    from rgbt_fusion import video as video
    from rgbt_fusion import weights as weights
    from rgbt_fusion.alignment.estimate import Alignment as Alignment
    from rgbt_fusion.alignment.estimate import estimate_alignment as estimate_alignment
    from rgbt_fusion.checks import NetworkError as NetworkError
    from rgbt_fusion.checks import ShapeError as ShapeError
    from rgbt_fusion.data.checking import check_dataset as check_dataset
    from rgbt_fusion.data.sequences import open_dataset as open_dataset
    from rgbt_fusion.data.sequences import open_sequence as open_sequence
    from rgbt_fusion.evaluation.report import write_report as write_report
    from rgbt_fusion.evaluation.results import read_results as read_results
    from rgbt_fusion.evaluation.run import run_tracker as run_tracker
    from rgbt_fusion.evaluation.scoring import IncompleteResultsError as IncompleteResultsError
    from rgbt_fusion.evaluation.scoring import load_benchmark as load_benchmark
    from rgbt_fusion.evaluation.scoring import score as score
    from rgbt_fusion.export.agreement import ExportError as ExportError
    from rgbt_fusion.export.agreement import ExportReport as ExportReport
    from rgbt_fusion.export.float16 import export_float16 as export_float16
    from rgbt_fusion.export.int8 import export_int8 as export_int8
    from rgbt_fusion.export.onnx_file import export_onnx as export_onnx
    from rgbt_fusion.export.program import export_program as export_program
    from rgbt_fusion.files.text_tables import DataError as DataError
    from rgbt_fusion.frames.types import ImagePair as ImagePair
    from rgbt_fusion.layers.alignment_layer import AlignedThermal as AlignedThermal
    from rgbt_fusion.layers.alignment_layer import AlignmentEstimate as AlignmentEstimate
    from rgbt_fusion.layers.alignment_layer import AlignmentLayer as AlignmentLayer
    from rgbt_fusion.layers.all_layer_self_attention import (
        AllLayerSelfAttention as AllLayerSelfAttention,
    )
    from rgbt_fusion.layers.any_place import AnyPlace as AnyPlace
    from rgbt_fusion.layers.attention import Attention as Attention
    from rgbt_fusion.layers.attention import AttentionWithScores as AttentionWithScores
    from rgbt_fusion.layers.attention import ScoredTokens as ScoredTokens
    from rgbt_fusion.layers.candidate_elimination import (
        CandidateElimination as CandidateElimination,
    )
    from rgbt_fusion.layers.candidate_elimination import EliminatedTokens as EliminatedTokens
    from rgbt_fusion.layers.candidate_elimination import (
        scheduled_keep_ratio as scheduled_keep_ratio,
    )
    from rgbt_fusion.layers.cross_attention_fusion import (
        CrossAttentionFusion as CrossAttentionFusion,
    )
    from rgbt_fusion.layers.cross_modal_compensation import CMC as CMC
    from rgbt_fusion.layers.cross_modal_compensation import (
        CrossModalCompensation as CrossModalCompensation,
    )
    from rgbt_fusion.layers.cross_modality_interaction import CMI as CMI
    from rgbt_fusion.layers.cross_modality_interaction import (
        CrossModalityInteraction as CrossModalityInteraction,
    )
    from rgbt_fusion.layers.difference_fusion_mamba import DFM as DFM
    from rgbt_fusion.layers.difference_fusion_mamba import (
        DifferenceFusionMamba as DifferenceFusionMamba,
    )
    from rgbt_fusion.layers.difference_fusion_mamba import FusedStreams as FusedStreams
    from rgbt_fusion.layers.efficient_multiscale_attention import (
        EfficientMultiscaleAttention as EfficientMultiscaleAttention,
    )
    from rgbt_fusion.layers.elimination_block import EliminationBlock as EliminationBlock
    from rgbt_fusion.layers.gated_cross_modal_compensation import CMC1 as CMC1
    from rgbt_fusion.layers.gated_cross_modal_compensation import (
        GatedCrossModalCompensation as GatedCrossModalCompensation,
    )
    from rgbt_fusion.layers.joint_candidate_elimination import (
        EliminatedStreams as EliminatedStreams,
    )
    from rgbt_fusion.layers.joint_candidate_elimination import (
        JointCandidateElimination as JointCandidateElimination,
    )
    from rgbt_fusion.layers.mamba import MambaBlock as MambaBlock
    from rgbt_fusion.layers.modality_aware_fusion import MAF as MAF
    from rgbt_fusion.layers.modality_aware_fusion import ModalityAwareFusion as ModalityAwareFusion
    from rgbt_fusion.layers.modality_reliability import ModalityReliability as ModalityReliability
    from rgbt_fusion.layers.modality_reliability import ReliabilityEstimate as ReliabilityEstimate
    from rgbt_fusion.layers.modality_reliability import WeighedStreams as WeighedStreams
    from rgbt_fusion.layers.multi_stream_fusion import MultiStreamFusion as MultiStreamFusion
    from rgbt_fusion.layers.multi_stream_prompter import MultiStreamPrompter as MultiStreamPrompter
    from rgbt_fusion.layers.mutual_prompter import MutualPrompter as MutualPrompter
    from rgbt_fusion.layers.mutual_prompter import MutualPrompts as MutualPrompts
    from rgbt_fusion.layers.order_dynamic_fusion_mamba import OFM as OFM
    from rgbt_fusion.layers.order_dynamic_fusion_mamba import (
        OrderDynamicFusionMamba as OrderDynamicFusionMamba,
    )
    from rgbt_fusion.layers.progressive_interaction import TPI as TPI
    from rgbt_fusion.layers.progressive_interaction import (
        ProgressiveInteraction as ProgressiveInteraction,
    )
    from rgbt_fusion.layers.progressive_interaction import (
        ProgressiveInteractionOutput as ProgressiveInteractionOutput,
    )
    from rgbt_fusion.layers.template_mask import template_mask as template_mask
    from rgbt_fusion.layers.temporal_modality_reweighting import TMR as TMR
    from rgbt_fusion.layers.temporal_modality_reweighting import (
        ReweightedStreams as ReweightedStreams,
    )
    from rgbt_fusion.layers.temporal_modality_reweighting import (
        TemporalModalityReweighting as TemporalModalityReweighting,
    )
    from rgbt_fusion.layers.temporal_modality_reweighting import TMRState as TMRState
    from rgbt_fusion.layers.token_selection import restore_tokens as restore_tokens
    from rgbt_fusion.layers.two_way_compensation import CompensatedStreams as CompensatedStreams
    from rgbt_fusion.layers.two_way_compensation import TwoWayCompensation as TwoWayCompensation
    from rgbt_fusion.layers.vit import EncoderBlock as EncoderBlock
    from rgbt_fusion.layers.vit import PatchEmbed as PatchEmbed
    from rgbt_fusion.losses.alignment import alignment_loss as alignment_loss
    from rgbt_fusion.losses.distillation import FeatureDistillationLoss as FeatureDistillationLoss
    from rgbt_fusion.losses.distillation import (
        HierarchicalDistillationLoss as HierarchicalDistillationLoss,
    )
    from rgbt_fusion.losses.distillation import ResponseDistillationLoss as ResponseDistillationLoss
    from rgbt_fusion.losses.localization import LocalizationLoss as LocalizationLoss
    from rgbt_fusion.losses.localization import focal_heatmap_loss as focal_heatmap_loss
    from rgbt_fusion.losses.localization import gaussian_label as gaussian_label
    from rgbt_fusion.losses.reliability import reliability_loss as reliability_loss
    from rgbt_fusion.models.ainet import AINet as AINet
    from rgbt_fusion.models.compensation_tracker import CompensationTracker as CompensationTracker
    from rgbt_fusion.models.encoder import EncoderSettings as EncoderSettings
    from rgbt_fusion.models.interface import Encoding as Encoding
    from rgbt_fusion.models.interface import ModelOutput as ModelOutput
    from rgbt_fusion.models.interface import TrackerModel as TrackerModel
    from rgbt_fusion.models.mutual_prompt import MutualPromptTeacher as MutualPromptTeacher
    from rgbt_fusion.models.mutual_prompt import OneStreamStudent as OneStreamStudent
    from rgbt_fusion.models.network import TrackingNetwork as TrackingNetwork
    from rgbt_fusion.models.ostrack import OSTrack as OSTrack
    from rgbt_fusion.models.presets import list_models as list_models
    from rgbt_fusion.models.tpmri import TPMRI as TPMRI
    from rgbt_fusion.models.tpmri import TPMRIState as TPMRIState
    from rgbt_fusion.models.two_stream import TwoStream as TwoStream
    from rgbt_fusion.ops.backends import backend_report as backend_report
    from rgbt_fusion.ops.causal_conv1d import causal_conv1d as causal_conv1d
    from rgbt_fusion.ops.causal_conv1d import ordered_causal_conv1d as ordered_causal_conv1d
    from rgbt_fusion.ops.conv_update import causal_conv1d_update as causal_conv1d_update
    from rgbt_fusion.ops.cross_scan import CrossScan as CrossScan
    from rgbt_fusion.ops.cross_scan import cross_scan as cross_scan
    from rgbt_fusion.ops.selective_scan import OrderedScan as OrderedScan
    from rgbt_fusion.ops.selective_scan import ordered_selective_scan as ordered_selective_scan
    from rgbt_fusion.ops.selective_scan import selective_scan as selective_scan
    from rgbt_fusion.ops.state_update import selective_state_update as selective_state_update
    from rgbt_fusion.shapes import BackendUnavailableError as BackendUnavailableError
    from rgbt_fusion.tracking.interface import TrackResult as TrackResult
    from rgbt_fusion.tracking.tracker import Tracker as Tracker
    from rgbt_fusion.weights.checkpoints import CheckpointError as CheckpointError
    from rgbt_fusion.weights.checkpoints import LoadReport as LoadReport
    from rgbt_fusion.weights.checkpoints import convert_checkpoint as convert_checkpoint
    from rgbt_fusion.weights.checkpoints import load_checkpoint as load_checkpoint
    from rgbt_fusion.weights.checkpoints import load_model as load_model
    from rgbt_fusion.weights.checkpoints import save_checkpoint as save_checkpoint
    from rgbt_fusion.weights.pretrained import create_model as create_model

_MODULES = {
    "checks": ("NetworkError", "ShapeError"),
    "shapes": ("BackendUnavailableError",),
    "frames.types": ("ImagePair",),
    "files.text_tables": ("DataError",),
    "ops.backends": ("backend_report",),
    "ops.causal_conv1d": ("causal_conv1d", "ordered_causal_conv1d"),
    "ops.conv_update": ("causal_conv1d_update",),
    "ops.cross_scan": ("CrossScan", "cross_scan"),
    "ops.selective_scan": ("OrderedScan", "ordered_selective_scan", "selective_scan"),
    "ops.state_update": ("selective_state_update",),
    "layers.alignment_layer": ("AlignedThermal", "AlignmentEstimate", "AlignmentLayer"),
    "layers.all_layer_self_attention": ("AllLayerSelfAttention",),
    "layers.any_place": ("AnyPlace",),
    "layers.attention": ("Attention", "AttentionWithScores", "ScoredTokens"),
    "layers.candidate_elimination": (
        "CandidateElimination",
        "EliminatedTokens",
        "scheduled_keep_ratio",
    ),
    "layers.cross_attention_fusion": ("CrossAttentionFusion",),
    "layers.cross_modal_compensation": ("CMC", "CrossModalCompensation"),
    "layers.cross_modality_interaction": ("CMI", "CrossModalityInteraction"),
    "layers.difference_fusion_mamba": ("DFM", "DifferenceFusionMamba", "FusedStreams"),
    "layers.efficient_multiscale_attention": ("EfficientMultiscaleAttention",),
    "layers.elimination_block": ("EliminationBlock",),
    "layers.gated_cross_modal_compensation": ("CMC1", "GatedCrossModalCompensation"),
    "layers.joint_candidate_elimination": ("EliminatedStreams", "JointCandidateElimination"),
    "layers.mamba": ("MambaBlock",),
    "layers.modality_aware_fusion": ("MAF", "ModalityAwareFusion"),
    "layers.modality_reliability": (
        "ModalityReliability",
        "ReliabilityEstimate",
        "WeighedStreams",
    ),
    "layers.multi_stream_fusion": ("MultiStreamFusion",),
    "layers.multi_stream_prompter": ("MultiStreamPrompter",),
    "layers.mutual_prompter": ("MutualPrompter", "MutualPrompts"),
    "layers.order_dynamic_fusion_mamba": ("OFM", "OrderDynamicFusionMamba"),
    "layers.progressive_interaction": (
        "ProgressiveInteraction",
        "ProgressiveInteractionOutput",
        "TPI",
    ),
    "layers.template_mask": ("template_mask",),
    "layers.temporal_modality_reweighting": (
        "ReweightedStreams",
        "TMR",
        "TMRState",
        "TemporalModalityReweighting",
    ),
    "layers.token_selection": ("restore_tokens",),
    "layers.two_way_compensation": ("CompensatedStreams", "TwoWayCompensation"),
    "layers.vit": ("EncoderBlock", "PatchEmbed"),
    "losses.alignment": ("alignment_loss",),
    "losses.distillation": (
        "FeatureDistillationLoss",
        "HierarchicalDistillationLoss",
        "ResponseDistillationLoss",
    ),
    "losses.localization": ("LocalizationLoss", "focal_heatmap_loss", "gaussian_label"),
    "losses.reliability": ("reliability_loss",),
    "models.ainet": ("AINet",),
    "models.compensation_tracker": ("CompensationTracker",),
    "models.encoder": ("EncoderSettings",),
    "models.interface": ("Encoding", "ModelOutput", "TrackerModel"),
    "models.mutual_prompt": ("MutualPromptTeacher", "OneStreamStudent"),
    "models.network": ("TrackingNetwork",),
    "models.ostrack": ("OSTrack",),
    "models.presets": ("list_models",),
    "models.tpmri": ("TPMRI", "TPMRIState"),
    "models.two_stream": ("TwoStream",),
    "weights.checkpoints": (
        "CheckpointError",
        "LoadReport",
        "convert_checkpoint",
        "load_checkpoint",
        "load_model",
        "save_checkpoint",
    ),
    "weights.pretrained": ("create_model",),
    "alignment.estimate": ("Alignment", "estimate_alignment"),
    "data.checking": ("check_dataset",),
    "data.sequences": ("open_dataset", "open_sequence"),
    "tracking.tracker": ("TrackResult", "Tracker"),
    "evaluation.report": ("write_report",),
    "evaluation.results": ("read_results",),
    "evaluation.run": ("run_tracker",),
    "evaluation.scoring": ("IncompleteResultsError", "load_benchmark", "score"),
    "export.agreement": ("ExportError", "ExportReport"),
    "export.float16": ("export_float16",),
    "export.int8": ("export_int8",),
    "export.onnx_file": ("export_onnx",),
    "export.program": ("export_program",),
}
"""Where the public names live; a module is imported when one of its names is first asked for."""

_ROOMS = (
    "alignment",
    "benchmarking",
    "boxes",
    "checks",
    "cli",
    "compat",
    "data",
    "evaluation",
    "export",
    "files",
    "frames",
    "layers",
    "losses",
    "models",
    "ops",
    "shapes",
    "synthetic",
    "tracking",
    "training",
    "typed_module",
    "video",
    "weights",
)
"""The subpackages and modules, each imported when it is first asked for."""

_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = ["__version__", *_HOME]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *_ROOMS])
