"""Further families of timm and transformers, shrunk, in the zoo's format: for `pt2_zoo.py`, static and dynamic.

    python pt2_zoo.py --zoo family_models.py --oxrt target/fast/oxrt --cases DIR --out RESULTS.tsv --modes dynamic [PREFIX…]

Of timm a small model of every family that neither the zoo nor `more_models.py` holds. Of transformers every type of model whose
configuration can be shrunk by its usual names (layers, widths, heads), with inputs by the names of its arguments; types that torch itself
does not run so are refused, which is said in the results.
"""
import inspect
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from more_models import B, BT, RNG, Entry, clone_tree, do_export, eager, flat_tensors  # noqa: F401  what a zoo offers

ENTRIES = {}


# ---- timm ----
def timm_model(name, **kw):
    def size():
        import timm

        return kw.get("img_size") or timm.get_pretrained_cfg(name).to_dict()["input_size"][-1]

    def build():
        import timm

        return timm.create_model(name, pretrained=False, **kw)

    def inputs(r, b=2):
        s = size()
        return (r.n(b, 3, s, s),)

    ENTRIES[f"timm/{name}"] = Entry(f"timm/{name}", "timm", build, inputs, dict(b=2), dict(b=3), (B,))


for _n in (
    "csatv2 cspnext_tiny densenetblur121d efficientformer_l1 efficientvim_m1 efficientvit_b0 lcnetv2_small lowformer_b0 regnetx_002 regnety_002 regnetv_040 resnetv2_18 resnetv2_50d_gn "
    "vit_tiny_r_s16_p8_224 convformer_s18 cspdarknet53 cspresnet50 darknet53 ecaresnet26t fbnetc_100 fbnetv3_b gcresnext26ts gernet_s ghostnet_050 gmlp_s16_224 haloregnetz_b hgnet_tiny "
    "lamhalobotnet50ts_256 sehalonet33ts botnet26t_256 maxvit_rmlp_pico_rw_256 coatnext_nano_rw_224 mixer_s32_224 mnasnet_small mobilenetv1_100 mobilenet_edgetpu_v2_xs nf_regnet_b0 eca_nfnet_l0 resnetaa34d resnetrs50 "
    "seresnext26d_32x4d seresnextaa101d_32x8d skresnext50_32x4d ese_vovnet39b spnasnet_100 semnasnet_075 tf_efficientnetv2_b0 tresnet_m rdnet_tiny iformer_s swin_s3_tiny_224 vgg11 xception41p flexivit_small inception_v3 resnext50_32x4d gcresnet33ts"
).split():
    timm_model(_n)
for _n in "swin_tiny_patch4_window7_224 davit_tiny".split():
    timm_model(_n, depths=(1, 1, 2, 1) if "swin" in _n else (1, 1, 1, 1))
for _n in "beitv2_base_patch16_224 aimv2_large_patch14_224 samvit_base_patch16_224 qwen3_vit_88m gemma4_vit_167m deepseek_vit_412m vit_base_patch16_rope_reg1_gap_256 vit_base_patch16_rope_mixed_224 vit_little_patch16_reg1_gap_256 eva_giant_patch14_224 vit_pe_core_tiny_patch16_384 naflexvit_base_patch16_parfac_gap vit_base_patch16_xp_224".split():
    timm_model(_n, depth=2)

# ---- transformers ----
SMALL = dict(
    vocab_size=99, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40, max_position_embeddings=64, num_key_value_heads=2, head_dim=8, d_model=32, encoder_layers=2, decoder_layers=2,
    encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=40, decoder_ffn_dim=40, d_ff=40, d_kv=8, num_layers=2, num_decoder_layers=2, num_heads=4, n_embd=32, n_layer=2, n_head=4, n_positions=64, n_inner=40,
    ffn_dim=40, image_size=32, patch_size=8, embed_dim=32, moe_intermediate_size=16, num_experts=4, num_local_experts=4, n_routed_experts=4, num_experts_per_tok=2, shared_expert_intermediate_size=16, q_lora_rank=16, kv_lora_rank=16,
    qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8, pad_token_id=0, bos_token_id=1, eos_token_id=2, projection_dim=16, num_channels=3, mamba_d_state=8, mamba_n_heads=4, mamba_d_head=16, mamba_chunk_size=4, state_size=8,
    n_group=1, topk_group=1, first_k_dense_replace=1, sliding_window=4, attention_window=4, num_queries=6, encoder_hidden_size=32, decoder_hidden_size=32, num_mel_bins=16, max_source_positions=32, max_target_positions=64,
    conv_dim=(16, 16), conv_stride=(5, 4), conv_kernel=(10, 8), num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, vocab_size_per_layer_input=99, hidden_size_per_layer_input=8, cross_attention_hidden_size=32, word_embed_proj_dim=32,
    linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8, linear_value_head_dim=8, num_frames=4, depth=2, mlp_dim=40, encoder_num_layers=2, decoder_num_layers=2, encoder_num_hidden_layers=2, decoder_num_hidden_layers=2,
    encoder_num_attention_heads=4, decoder_num_attention_heads=4, encoder_num_key_value_heads=2, decoder_num_key_value_heads=2, encoder_intermediate_size=40, decoder_intermediate_size=40, index_topk=4, index_n_heads=2, index_head_dim=16,
)
# Held by the zoo or `more_models.py`, or not a model of tensors alone.
KNOWN = set(
    "bert roberta albert electra mpnet deberta deberta-v2 mobilebert convbert squeezebert fnet roformer layoutlm nystromformer esm big_bird xlm-roberta megatron-bert ibert rembert distilbert modernbert longformer funnel xlnet reformer canine gpt2 "
    "gpt_neo gpt_neox gptj opt bloom llama mistral qwen2 qwen3 gemma gemma2 gemma3_text phi phi3 falcon mpt stablelm starcoder2 olmo2 cohere granite smollm3 glm4 mamba mamba2 falcon_mamba recurrent_gemma rwkv mixtral qwen2_moe qwen3_moe gpt_oss "
    "deepseek_v3 olmoe switch_transformers t5 mt5 bart mbart pegasus marian m2m_100 blenderbot-small led whisper vit deit beit dinov2 dinov2_with_registers dinov3_vit vit_mae yolos swin swinv2 convnext convnextv2 resnet regnet segformer mobilevit "
    "mobilenet_v2 poolformer pvt_v2 focalnet dpt siglip_vision_model clip_vision_model hiera videomae timesformer detr conditional_detr deformable_detr rt_detr mask2former depth_anything sam clip siglip owlvit clipseg vilt wav2vec2 hubert wavlm sew "
    "wav2vec2-conformer data2vec-audio audio-spectrogram-transformer encodec vits patchtst informer time_series_transformer aimv2_vision_model apertus arcee bigbird_pegasus bitnet blenderbot camembert clap_audio_model cohere2 d_fine dac data2vec-text "
    "deepseek_v2 diffllama doge dots1 ernie ernie4_5 eurobert exaone4 falcon_h1 fastspeech2_conformer flex_olmo gemma3n_text git glm gpt_bigcode granitemoehybrid helium hunyuan_v1_dense imagegpt jetmoe layoutlmv3 lilt luke lxmert mimi minimax "
    "ministral mlcd_vision_model mobilevitv2 mvp nemotron nomic_bert olmo olmo3 openai-gpt pegasus_x perceiver persimmon pvt qwen3_next roc_bert rt_detr_v2 seed_oss swiftformer textnet timesfm upernet vaultgemma visual_bert vitdet vitmatte "
    "vitpose_backbone vivit vjepa2 wav2vec2-bert xlstm xmod zamba2 codegen ctrl xglm phimoe granitemoe ernie4_5_moe glm4_moe jamba lfm2 bamba tapas mra splinter umt5 longt5 plbart prophetnet fsmt moonshine speech_to_text unispeech unispeech-sat "
    "levit cvt efficientnet mobilenet_v1 bit swin2sr glpn superpoint vit_msn ijepa patchtsmixer decision_transformer biogpt bert-generation".split()
)


def shrink(config):
    for name, small in SMALL.items():
        have = getattr(config, name, None)
        if isinstance(have, bool) or have is None or isinstance(have, (list, tuple)) != isinstance(small, (list, tuple)):
            continue
        if isinstance(have, (int, list, tuple)):
            try:
                setattr(config, name, small)
            except Exception:
                pass
    for name, value in list(vars(config).items()):
        if hasattr(value, "model_type") and hasattr(value, "to_dict"):
            shrink(value)
        elif name == "layer_types" and isinstance(value, list):
            config.layer_types = list(dict.fromkeys(value))[:2] if len(set(value)) > 1 else value[:2]
        elif name in ("mlp_layer_types", "layers_block_type") and isinstance(value, list):
            setattr(config, name, value[:2])


def transformers_model(kind):
    def build():
        import transformers
        from transformers.models.auto import configuration_auto, modeling_auto

        config = configuration_auto.CONFIG_MAPPING[kind]()
        shrink(config)
        if hasattr(config, "use_cache"):
            config.use_cache = False
        config._attn_implementation = "sdpa"
        for mapping in (modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING, modeling_auto.MODEL_MAPPING):
            try:
                cls = mapping[type(config)]
                cls = cls[0] if isinstance(cls, (list, tuple)) else cls
                break
            except KeyError:
                continue
        try:
            return cls(config)
        except ValueError:
            config._attn_implementation = "eager"
            return cls(config)

    def inputs(r, b=2):
        e = ENTRIES[f"hf/{kind}"]
        if not hasattr(e, "names"):
            m = build()
            e.names, e.config = list(inspect.signature(m.forward).parameters), m.config
        c = e.config
        text = getattr(c, "text_config", None) or c
        vision = getattr(c, "vision_config", None) or c
        side = getattr(vision, "image_size", 32) or 32
        side = side[0] if isinstance(side, (list, tuple)) else side
        channels = getattr(vision, "num_channels", 3) or 3
        out = {}
        for name in e.names:
            if name in ("input_ids", "decoder_input_ids"):
                out[name] = r.i(3, 98, b, 8)
            elif name == "pixel_values":
                out[name] = r.n(b, channels, side, side)
            elif name == "input_values":
                out[name] = r.n(b, 2000)
            elif name == "input_features":
                out[name] = r.n(b, getattr(c, "num_mel_bins", 16), 64)
            elif name == "bbox":
                out[name] = r.i(0, 20, b, 8, 4).sort(-1).values
        return (), out

    e = Entry(f"hf/{kind}", "hf", build, inputs, dict(b=2), dict(b=3), None)
    # Batch sizes alone are dynamic; which arguments there are is known when the model is made.
    names = ("input_ids", "decoder_input_ids", "pixel_values", "input_values", "input_features", "bbox")
    ENTRIES[e.id] = e

    def spec():
        _, kwargs = e.make_inputs()
        return {k: B for k in kwargs if k in names}

    e.dyn = spec


try:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_MAPPING_NAMES

    for _k in sorted(set(MODEL_MAPPING_NAMES) | set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)):
        if _k not in KNOWN and _k in CONFIG_MAPPING_NAMES:
            transformers_model(_k)
except ImportError:
    print("transformers is not installed")

_do_export = do_export


def do_export(e, dynamic=False):
    if callable(e.dyn):
        e.dyn = e.dyn()
    return _do_export(e, dynamic)
