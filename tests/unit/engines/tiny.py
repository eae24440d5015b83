"""Pipelines with random weights of a few kilobytes, in the layout that real ones have: no hub, no download.

They prove that loading, wiring, shapes, seeds and adapters work, and nothing about quality.
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLQwenImage,
    AutoencoderKLWan,
    DDIMScheduler,
    DDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    QwenImageEditPipeline,
    QwenImageEditPlusPipeline,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    StableDiffusionUpscalePipeline,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
    WanAnimatePipeline,
    WanAnimateTransformer3DModel,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
    WanVACEPipeline,
    WanVACETransformer3DModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import (
    CLIPImageProcessorPil,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModel,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    DPTImageProcessorPil,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3Model,
    T5Tokenizer,
    UMT5Config,
    UMT5EncoderModel,
    VitPoseBackboneConfig,
    VitPoseConfig,
    VitPoseForPoseEstimation,
    VitPoseImageProcessorPil,
)

_LETTERS = string.ascii_letters + string.digits + string.punctuation + " Ġ▁\n"
_QWEN_MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]
_CHAT = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"


def build(pipeline: str, folder: Path) -> Path:
    """Make a tiny pipeline of that class, the same one every time, and save it."""
    torch.manual_seed(0)
    made: Any = BUILDERS[pipeline]()
    made.set_progress_bar_config(disable=True)
    made.save_pretrained(folder, safe_serialization=True)
    index = json.loads((folder / "model_index.json").read_text())
    if "processor" in index:
        # As the real ones say, whose processor needs torchvision.
        index["processor"] = ["transformers", "Qwen2VLProcessor"]
        (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def build_pose(folder: Path) -> Path:
    """Make a tiny ViTPose that is certain of all its points, wherever they are, and save it."""
    torch.manual_seed(0)
    backbone = VitPoseBackboneConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=[64, 48],
        patch_size=[16, 16],
        out_indices=[1],
    )
    model = VitPoseForPoseEstimation(VitPoseConfig(backbone_config=backbone, num_labels=17))
    torch.nn.init.ones_(model.head.conv.bias)
    torch.nn.init.normal_(model.head.conv.weight)
    model.save_pretrained(folder)
    VitPoseImageProcessorPil(size={"height": 64, "width": 48}).save_pretrained(folder)
    return folder


def build_depth(folder: Path, kind: str = "relative") -> Path:
    """Make a tiny Depth Anything and save it; the same one for each kind, but for what its numbers stand for."""
    torch.manual_seed(0)
    backbone = Dinov2Config(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=56,
        patch_size=14,
        out_indices=[1, 2],
        apply_layernorm=True,
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=14,
        reassemble_hidden_size=16,
        reassemble_factors=[2, 1],
        neck_hidden_sizes=[8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
    )
    model = DepthAnythingForDepthEstimation(config)
    # Of so small a signal nothing would be left behind the last rectifier.
    for weights in model.parameters():
        if weights.dim() > 1:
            torch.nn.init.normal_(weights, std=0.3)
    torch.nn.init.constant_(model.head.conv3.bias, 2)
    model.config.depth_estimation_type = kind
    model.save_pretrained(folder)
    DPTImageProcessorPil(size={"height": 56, "width": 56}, ensure_multiple_of=14).save_pretrained(folder)
    return folder


def _t5() -> dict[str, Any]:
    pieces = ["<pad>", "</s>", "<unk>", *dict.fromkeys(_LETTERS)]
    config = UMT5Config(vocab_size=256, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    return {
        "tokenizer": T5Tokenizer(vocab=[(piece, -float(i)) for i, piece in enumerate(pieces)], unk_id=2, extra_ids=0),
        "text_encoder": UMT5EncoderModel(config),
    }


def _wan_vae() -> AutoencoderKLWan:
    return AutoencoderKLWan(
        base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )


_WAN: dict[str, Any] = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 32,
    "freq_dim": 32,
    "ffn_dim": 32,
    "num_layers": 2,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "rope_max_seq_len": 32,
}


def _wan_parts() -> dict[str, Any]:
    return {
        **_t5(),
        "vae": _wan_vae(),
        "scheduler": UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
    }


def _wan_vace() -> WanVACEPipeline:
    """A pair of models, as Wan 2.2 has: the second takes over below the boundary."""
    high, low = (WanVACETransformer3DModel(**_WAN, vace_layers=[0], vace_in_channels=96) for _ in range(2))
    for model in (high, low):
        # So little of so small a guide gets through that 8 bits would not show it.
        for block in model.vace_blocks:
            torch.nn.init.normal_(block.proj_out.weight)
    return WanVACEPipeline(**_wan_parts(), transformer=high, transformer_2=low, boundary_ratio=0.875)


def _wan_i2v() -> WanImageToVideoPipeline:
    transformer = WanTransformer3DModel(**(_WAN | {"in_channels": 36}))
    return WanImageToVideoPipeline(**_wan_parts(), transformer=transformer)


def _wan() -> WanPipeline:
    return WanPipeline(**_wan_parts(), transformer=WanTransformer3DModel(**_WAN))


def _wan_animate() -> WanAnimatePipeline:
    transformer = WanAnimateTransformer3DModel(
        **(_WAN | {"in_channels": 36}),
        latent_channels=16,
        image_dim=4,
        motion_encoder_channel_sizes={"4": 16, "8": 16, "16": 16},
        motion_encoder_size=16,
        motion_style_dim=8,
        motion_dim=4,
        motion_encoder_dim=16,
        face_encoder_hidden_dim=16,
        face_encoder_num_heads=2,
        inject_face_latents_blocks=2,
    )
    vision = CLIPVisionConfig(
        hidden_size=4,
        projection_dim=4,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        intermediate_size=16,
        patch_size=16,
    )
    return WanAnimatePipeline(
        **_wan_parts(),
        transformer=transformer,
        image_encoder=CLIPVisionModel(vision),
        image_processor=CLIPImageProcessorPil(crop_size=32, size=32),
    )


def _bpe() -> dict[str, int]:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return {piece: i for i, piece in enumerate([*_QWEN_MARKS, *bytes_to_unicode().values()])}


def _qwen_tokenizer() -> Qwen2Tokenizer:
    return Qwen2Tokenizer(vocab=_bpe(), merges=[], additional_special_tokens=_QWEN_MARKS[1:], chat_template=_CHAT)


def _qwen_parts() -> dict[str, Any]:
    text = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "vocab_size": 512,
        "rope_parameters": {"mrope_section": [1, 1, 2], "rope_type": "default", "rope_theta": 1e6},
    }
    vision = {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": 16,
        "fullatt_block_indexes": [0],
    }
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=5,
        video_token_id=6,
        vision_start_token_id=3,
        vision_end_token_id=4,
    )
    return {
        "tokenizer": _qwen_tokenizer(),
        "text_encoder": Qwen2_5_VLForConditionalGeneration(config),
        "vae": AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 2, 4, 4],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
            latents_mean=[0.0] * 4,
            latents_std=[1.0] * 4,
        ),
        "transformer": QwenImageTransformer2DModel(
            patch_size=2,
            in_channels=16,
            out_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            guidance_embeds=False,
            axes_dims_rope=(8, 4, 4),
        ),
        "scheduler": FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    }


def _processor() -> Any:
    from transformers import Qwen2VLImageProcessorPil

    from tasks_lib.engines.diffusers.processor import PictureProcessor

    pictures = Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=56 * 56)
    return PictureProcessor(pictures, _qwen_tokenizer())


def _z_image() -> ZImagePipeline:
    transformer = ZImageTransformer2DModel(
        all_patch_size=(2,),
        all_f_patch_size=(1,),
        in_channels=16,
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        norm_eps=1e-5,
        qk_norm=True,
        cap_feat_dim=16,
        rope_theta=256.0,
        t_scale=1000.0,
        axes_dims=[8, 4, 4],
        axes_lens=[1024, 64, 64],
    )
    # They are made without values.
    torch.nn.init.normal_(transformer.x_pad_token)
    torch.nn.init.normal_(transformer.cap_pad_token)
    text = Qwen3Config(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        vocab_size=512,
        max_position_embeddings=512,
        head_dim=8,
    )
    return ZImagePipeline(
        transformer=transformer,
        vae=_vae(latent_channels=16, scaling_factor=0.3611, shift_factor=0.1159, blocks=4),
        text_encoder=Qwen3Model(text),
        tokenizer=_qwen_tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def _vae(*, latent_channels: int, blocks: int, **config: Any) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * blocks,
        up_block_types=["UpDecoderBlock2D"] * blocks,
        block_out_channels=[8] * blocks,
        layers_per_block=1,
        norm_num_groups=4,
        # Its cost grows with the fourth power of a picture's side.
        mid_block_add_attention=False,
        latent_channels=latent_channels,
        **config,
    )


def _upscale() -> StableDiffusionUpscalePipeline:
    unet = UNet2DConditionModel(
        block_out_channels=(8, 8),
        layers_per_block=1,
        sample_size=32,
        in_channels=7,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=4,
        num_class_embeds=1000,
    )
    vocab = {piece: i for i, piece in enumerate(["<|startoftext|>", "<|endoftext|>", *dict.fromkeys(_LETTERS)])}
    text = CLIPTextConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=256,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return StableDiffusionUpscalePipeline(
        vae=_vae(latent_channels=4, blocks=3, scaling_factor=0.08333),
        text_encoder=CLIPTextModel(text),
        tokenizer=CLIPTokenizer(vocab=vocab, merges=[], model_max_length=77),
        unet=unet,
        low_res_scheduler=DDPMScheduler(),
        scheduler=DDIMScheduler(prediction_type="v_prediction"),
        max_noise_level=350,
    )


BUILDERS: dict[str, Callable[[], Any]] = {
    "WanVACEPipeline": _wan_vace,
    "WanImageToVideoPipeline": _wan_i2v,
    "WanPipeline": _wan,
    "WanAnimatePipeline": _wan_animate,
    "QwenImagePipeline": lambda: QwenImagePipeline(**_qwen_parts()),
    "QwenImageEditPipeline": lambda: QwenImageEditPipeline(**_qwen_parts(), processor=_processor()),
    "QwenImageEditPlusPipeline": lambda: QwenImageEditPlusPipeline(**_qwen_parts(), processor=_processor()),
    "ZImagePipeline": _z_image,
    "StableDiffusionUpscalePipeline": _upscale,
}
