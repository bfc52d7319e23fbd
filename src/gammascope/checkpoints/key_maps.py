"""Names of tensors in files that authors published, and ours: facts about these files, taken from public code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

Rules: TypeAlias = tuple[tuple[str, str | None], ...]
"""Regular expressions over whole names and what replaces them, the first that matches counts; None: not needed."""

_TOWER = r"(?:embeddings|pre_layrnorm|encoder|post_layernorm)\..+"
# Written by older versions of transformers; always 0, 1, 2, ...
_POSITIONS = (r".*\.position_ids", None)

EFFORT_LAYERS: Mapping[str, str | None] = {
    "weight_main": "main",
    "U_residual": "u",
    "S_residual": "s",
    "V_residual": "v",
    # Kept for penalties that the published code does not use.
    "U_r": None,
    "S_r": None,
    "V_r": None,
    "weight_original_fnorm": None,
    "weight_main_fnorm": None,
}
"""Published names of a residual-SVD layer's parts, and ours."""

EFFORT: Rules = (
    _POSITIONS,
    (r"head\.(weight|bias)", r"head.\1"),
    (r"fc\.(weight|bias)", r"head.\1"),
    (rf"(?:backbone|model\.vision_model)\.({_TOWER})", r"backbone.tower.\1"),
    (r"model\.(?:text_model\..+|(?:visual|text)_projection\.weight|logit_scale)", None),
)

GAPL: Rules = (
    _POSITIONS,
    (r"foren_proj\.weight", "project.weight"),
    (r"cross_attention\.(.+)", r"mix.attention.\1"),
    (r"fc\.weight", "classify.weight"),
    (rf"feature_extractor\.({_TOWER})", r"backbone.tower.\1"),
)

C2P_CLIP: Rules = (
    _POSITIONS,
    (rf"model\.vision_model\.({_TOWER})", r"backbone.tower.\1"),
    (r"model\.visual_projection\.weight", "to_shared.weight"),
    (r"model\.fc\.(weight|bias)", r"head.\1"),
)

_BLOCK = r"visual\.transformer\.resblocks\.(\d+)\."
_OURS = r"backbone.tower.encoder.layers.\1."
OPENAI: Rules = (
    (r"visual\.class_embedding", "backbone.tower.embeddings.class_embedding"),
    (r"visual\.positional_embedding", "backbone.tower.embeddings.position_embedding.weight"),
    (r"visual\.conv1\.weight", "backbone.tower.embeddings.patch_embedding.weight"),
    (r"visual\.ln_pre\.(.+)", r"backbone.tower.pre_layrnorm.\1"),
    (r"visual\.ln_post\.(.+)", r"backbone.tower.post_layernorm.\1"),
    (rf"{_BLOCK}ln_([12])\.(.+)", rf"{_OURS}layer_norm\2.\3"),
    (rf"{_BLOCK}attn\.in_proj_(weight|bias)", rf"{_OURS}self_attn.qkv_proj.\2"),
    (rf"{_BLOCK}attn\.out_proj\.(.+)", rf"{_OURS}self_attn.out_proj.\2"),
    (rf"{_BLOCK}mlp\.c_fc\.(.+)", rf"{_OURS}mlp.fc1.\2"),
    (rf"{_BLOCK}mlp\.c_proj\.(.+)", rf"{_OURS}mlp.fc2.\2"),
    (r"visual\.proj", "projection"),
    (r"(?:transformer|token_embedding|ln_final)\..+", None),
    (r"positional_embedding|text_projection|logit_scale", None),
)
"""CLIP's vision tower as OpenAI named it; the text half is not needed."""

_HUB = r"base_model\.model\."
_LAYER = r"backbone.tower.encoder.layer.\1"
DDA: Rules = (
    (r"base_model\.fc\.(weight|bias)", r"head.\1"),
    (rf"{_HUB}cls_token", "backbone.tower.embeddings.cls_token"),
    (rf"{_HUB}mask_token", "backbone.tower.embeddings.mask_token"),
    (rf"{_HUB}pos_embed", "backbone.tower.embeddings.position_embeddings"),
    (
        rf"{_HUB}patch_embed\.proj\.(.+)",
        r"backbone.tower.embeddings.patch_embeddings.projection.\1",
    ),
    (rf"{_HUB}norm\.(.+)", r"backbone.tower.layernorm.\1"),
    (rf"{_HUB}blocks\.(\d+)\.(norm[12]\..+)", rf"{_LAYER}.\2"),
    (rf"{_HUB}blocks\.(\d+)\.ls([12])\.gamma", rf"{_LAYER}.layer_scale\2.lambda1"),
    (rf"{_HUB}blocks\.(\d+)\.attn\.qkv\.(.+)", rf"{_LAYER}.attention.qkv.\2"),
    (rf"{_HUB}blocks\.(\d+)\.attn\.proj\.(.+)", rf"{_LAYER}.attention.o_proj.\2"),
    (rf"{_HUB}blocks\.(\d+)\.(mlp\.fc[12]\..+)", rf"{_LAYER}.\2"),
)

RINE: Rules = (
    (r"alpha", "importance"),
    (r"proj1\.(\d+\.(?:weight|bias))", r"project.\1"),
    (r"proj2\.(\d+\.(?:weight|bias))", r"gather.\1"),
    (r"(head\.\d+\.(?:weight|bias))", r"\1"),
)

_STAGE = r"feature\.(\d+)\.(\d+)\."
FERRETNET: Rules = (
    (r"cbr1\.([01]\..+)", r"stem.\1"),
    (r"cbr2\.0\.(.+)", r"stem.3.\1"),
    (r"cbr2\.1\.(.+)", r"stem.4.\1"),
    (rf"{_STAGE}layers\.0\.conv1\.(.+)", r"stages.\1.\2.near.\3"),
    (rf"{_STAGE}layers\.0\.conv2\.(.+)", r"stages.\1.\2.far.\3"),
    (rf"{_STAGE}layers\.0\.conv3\.(.+)", r"stages.\1.\2.mix.0.\3"),
    (rf"{_STAGE}layers\.1\.(.+)", r"stages.\1.\2.mix.1.\3"),
    (rf"{_STAGE}layers\.3\.depth_wise\.(.+)", r"stages.\1.\2.body.0.\3"),
    (rf"{_STAGE}layers\.3\.point_wise\.(.+)", r"stages.\1.\2.body.1.\3"),
    (rf"{_STAGE}layers\.4\.(.+)", r"stages.\1.\2.body.2.\3"),
    (rf"{_STAGE}shortcut\.(.+)", r"stages.\1.\2.shortcut.\3"),
    (r"feature\.\d+\.weight", "last.weight"),
    (r"logit\.1\.(weight|bias)", r"head.1.\1"),
)
