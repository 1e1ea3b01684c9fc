# ruff: noqa: F821 - only a type checker knows reveal_type
"""What a user writes, for a type checker: each comment is the type that the call must have.

``test_user_code`` has pyright read this file in strict mode. It is never run.
"""

import torch

from rgbt_fusion import (
    CMC,
    CMC1,
    CMI,
    DFM,
    MAF,
    OFM,
    TMR,
    TPI,
    TPMRI,
    AINet,
    AlignmentLayer,
    AllLayerSelfAttention,
    AnyPlace,
    Attention,
    AttentionWithScores,
    CandidateElimination,
    CompensationTracker,
    CrossAttentionFusion,
    EfficientMultiscaleAttention,
    EliminationBlock,
    EncoderBlock,
    EncoderSettings,
    FeatureDistillationLoss,
    HierarchicalDistillationLoss,
    ImagePair,
    JointCandidateElimination,
    LocalizationLoss,
    MambaBlock,
    ModalityReliability,
    MultiStreamFusion,
    MultiStreamPrompter,
    MutualPrompter,
    MutualPromptTeacher,
    OneStreamStudent,
    OSTrack,
    PatchEmbed,
    ResponseDistillationLoss,
    TwoStream,
    TwoWayCompensation,
    create_model,
    restore_tokens,
    template_mask,
)

tokens = torch.zeros(1, 80, 64)
maps = torch.zeros(1, 8, 4, 4)
scores = torch.zeros(1, 64)
score_map = torch.zeros(1, 1, 16, 16)
box = torch.zeros(1, 4)

reveal_type(PatchEmbed()(torch.zeros(1, 3, 128, 128)))  # Tensor
reveal_type(Attention(64, 4)(tokens))  # Tensor
reveal_type(AttentionWithScores(64, 4)(tokens, template_length=16))  # ScoredTokens
reveal_type(EncoderBlock(64, 4)(tokens))  # Tensor
reveal_type(EliminationBlock(64, 4)(tokens, template_length=16))  # EliminatedTokens
reveal_type(CandidateElimination()(tokens, scores))  # EliminatedTokens
reveal_type(JointCandidateElimination()(tokens, tokens, scores, scores))  # EliminatedStreams
reveal_type(MambaBlock(64)(tokens))  # Tensor
reveal_type(DFM(64)(tokens, tokens))  # FusedStreams
reveal_type(CrossAttentionFusion(64, 4)(tokens, tokens))  # FusedStreams
reveal_type(ModalityReliability(64)(tokens, tokens))  # WeighedStreams
reveal_type(AlignmentLayer(8)(maps, maps))  # AlignedThermal
reveal_type(OFM(64, num_layers=2)([tokens, tokens]))  # Tensor
reveal_type(AllLayerSelfAttention(64, 4)([tokens, tokens]))  # Tensor
reveal_type(EfficientMultiscaleAttention(8)(maps))  # Tensor
reveal_type(TMR(8)(maps, maps))  # ReweightedStreams
reveal_type(CMI(8)(maps, maps))  # Tensor
reveal_type(MAF(8)(maps, maps))  # Tensor
reveal_type(TPI(8)(maps, maps))  # ProgressiveInteractionOutput
reveal_type(MutualPrompter(80)(tokens, tokens))  # MutualPrompts
reveal_type(CMC(64, 4)(tokens, tokens))  # Tensor
reveal_type(CMC1(64, 4)(tokens, tokens))  # Tensor
reveal_type(TwoWayCompensation(64, 4)(tokens, tokens))  # CompensatedStreams
reveal_type(MultiStreamPrompter(80)(torch.zeros(1, 3, 80, 64)))  # Tensor
reveal_type(MultiStreamFusion(8, 3)(torch.zeros(1, 3, 8, 4, 4)))  # Tensor
reveal_type(AnyPlace(DFM(8))(maps, maps))  # FusedStreams
reveal_type(AnyPlace([DFM(8), DFM(8)])([maps, maps], [maps, maps]))  # list[FusedStreams]

reveal_type(FeatureDistillationLoss()([tokens], [tokens]))  # Tensor
reveal_type(ResponseDistillationLoss()(score_map, score_map))  # Tensor
reveal_type(LocalizationLoss()(score_map, box, box))  # LocalizationTerms
reveal_type(HierarchicalDistillationLoss()(score_map, box, box))  # DistillationTerms

settings = EncoderSettings()
images = ImagePair(torch.zeros(1, 3, 128, 128), torch.zeros(1, 3, 256, 256))
reveal_type(OSTrack(settings)(images, images))  # ModelOutput
reveal_type(TwoStream(settings)(images, images))  # ModelOutput
reveal_type(AINet(settings)(images, images))  # ModelOutput
reveal_type(TPMRI(settings)(images, images))  # ModelOutput
reveal_type(MutualPromptTeacher(settings)(images, images))  # ModelOutput
reveal_type(OneStreamStudent(settings)(images, images))  # ModelOutput
reveal_type(CompensationTracker(settings)(images, images))  # ModelOutput
reveal_type(create_model("ainet_tiny_128")(images, images))  # ModelOutput

# results have fields, and what one layer returns the next one takes
out = DFM(64, variant="paper", backend="vectorised")(rgb=tokens, tir=tokens)
reveal_type(out.fused)  # Tensor
rgb, tir, state = TMR(8)(maps, maps)
reveal_type(state)  # TMRState
fused, state = TPI(8, cmi="bidirectional", maf=None)(rgb, tir, state.reset(torch.ones(1).bool()))
reveal_type(fused)  # Tensor
prompts = MutualPrompter(80, history=False, spatial_attention=None)(tokens, tokens)
prompts = MutualPrompter(80)(tokens + prompts.rgb, tokens + prompts.tir, prompts)
left = EliminationBlock(64, 4)(tokens, 16, mask=template_mask("centre_point", 4))
reveal_type(restore_tokens(left.tokens, left.indices, 64))  # Tensor
reveal_type(DFM(64).enhance(tokens, tokens))  # tuple[Tensor, Tensor]
