"""Models of libraries that neither the zoo nor `more_models.py` holds, in the zoo's format: for `pt2_zoo.py`, static and dynamic.

    pip install diffusers torch-geometric segmentation-models-pytorch monai kornia vit-pytorch x-transformers peft torchao
    python pt2_zoo.py --zoo library_models.py --oxrt target/fast/oxrt --cases DIR --out RESULTS.tsv [PREFIX…]

Small, with random weights, seeded. A library that is not installed refuses its entries, which is said in the results.
"""
import importlib
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F
from more_models import BHW, BT, RNG, B, Entry, clone_tree, do_export, eager, flat_tensors  # noqa: F401  what a zoo offers

# A scan of vit-pytorch's and others' einsum chains is no deeper than this.
sys.setrecursionlimit(10000)
ENTRIES = {}
BTHW = {0: "b", 2: "t", 3: "h", 4: "w"}
BDHW = {0: "b", 2: "d", 3: "h", 4: "w"}


def add(name, build, inputs, dyn, alt, **sizes):
    family = name.split("/")[0]
    ENTRIES[name] = Entry(name, family, build, inputs, sizes, alt, dyn)


class Call(nn.Module):
    """A module whose result is made of tensors by `take`."""

    def __init__(self, m, take=lambda y: y, call=None):
        super().__init__()
        self.m, self.take, self.call = m, take, call

    def forward(self, *args):
        return self.take(self.call(self.m, *args) if self.call else self.m(*args))


def of(library, name):
    return lambda **kw: getattr(importlib.import_module(library), name)(**kw)


# ---- diffusers ----
def diffuser(name, inputs, dyn, alt, sizes, call=None, take=lambda y: y[0], cls=None, **config):
    build = lambda: Call(of("diffusers", cls or name)(**config), take, call or (lambda m, *a: m(*a, return_dict=False)))
    # `Call` takes a tuple of arguments, whose specification is one tuple.
    add(f"diffusers/{name}", build, inputs, (dyn,), alt, **sizes)


LAT = dict(b=2, h=16, w=16)
LATALT = dict(b=3, h=24, w=32)
diffuser("UNet2DModel", lambda r, b=2, h=16, w=16: (r.n(b, 3, h, w), r.i(0, 999, b)), (BHW, B), LATALT, LAT, sample_size=16, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=4,
         down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"), attention_head_dim=8)
COND = dict(sample_size=16, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=4, cross_attention_dim=12, attention_head_dim=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"))
COND_IN = lambda r, b=2, h=16, w=16, s=5: (r.n(b, 4, h, w), r.i(0, 999, b), r.n(b, s, 12))
diffuser("UNet2DConditionModel", COND_IN, (BHW, B, {0: "b", 1: "s"}), dict(b=3, h=24, w=32, s=7), dict(b=2, h=16, w=16, s=5), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), **COND)
diffuser("UNet2DConditionModelXL", lambda r, b=2, h=16, w=16, s=5: (r.n(b, 4, h, w), r.i(0, 999, b), r.n(b, s, 12), r.n(b, 16), r.n(b, 6)), (BHW, B, {0: "b", 1: "s"}, B, B), dict(b=3, h=24, w=32, s=7), dict(b=2, h=16, w=16, s=5),
         call=lambda m, x, t, e, p, i: m(x, t, e, added_cond_kwargs=dict(text_embeds=p, time_ids=i), return_dict=False), cls="UNet2DConditionModel", up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
         addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=64, use_linear_projection=True, transformer_layers_per_block=(2, 1), **COND)
diffuser("ControlNetModel", lambda r, b=2, h=16, w=16, s=5: (r.n(b, 4, h, w), r.i(0, 999, b), r.n(b, s, 12), r.u(b, 3, 8 * h, 8 * w)), (BHW, B, {0: "b", 1: "s"}, B), dict(b=3, s=7), dict(b=2, s=5),
         call=lambda m, x, t, e, c: m(x, t, e, c, return_dict=False), take=lambda y: (*y[0], y[1]), conditioning_embedding_out_channels=(8, 16, 16, 16), **{k: v for k, v in COND.items() if k not in ("sample_size",)})
AE = dict(block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=4, down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2)
PIC = lambda r, b=2, h=32, w=32: (r.n(b, 3, h, w),)
PICS = dict(b=2, h=32, w=32)
PICALT = dict(b=3, h=48, w=64)
diffuser("AutoencoderKL", PIC, (BHW,), PICALT, PICS, latent_channels=4, **AE)
diffuser("VQModel", PIC, (BHW,), PICALT, PICS, num_vq_embeddings=16, latent_channels=3, **AE)
diffuser("AutoencoderTiny", PIC, (BHW,), PICALT, PICS, encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1))
diffuser("AsymmetricAutoencoderKL", PIC, (BHW,), PICALT, PICS, down_block_out_channels=(16, 32), up_block_out_channels=(16, 32), norm_num_groups=4, down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, layers_per_down_block=1, layers_per_up_block=1)
diffuser("AutoencoderKLTemporalDecoder", lambda r, b=2, h=16, w=16: (r.n(2 * b, 4, h, w),), (BHW,), LATALT, LAT, call=lambda m, z: m.decode(z, num_frames=2, return_dict=False), block_out_channels=(32, 32), layers_per_block=1, down_block_types=("DownEncoderBlock2D",) * 2)
diffuser("AutoencoderDC", PIC, (BHW,), PICALT, PICS, take=lambda y: y[0], latent_channels=4, attention_head_dim=8, encoder_block_types=("ResBlock", "EfficientViTBlock"), decoder_block_types=("ResBlock", "EfficientViTBlock"), encoder_block_out_channels=(8, 16), decoder_block_out_channels=(8, 16), encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1), encoder_qkv_multiscales=((), (5,)), decoder_qkv_multiscales=((), (5,)), decoder_norm_types="rms_norm", decoder_act_fns="silu")
diffuser("UNet1DModel", lambda r, b=2, t=32: (r.n(b, 14, t), r.i(0, 99, b)), ({0: "b", 2: "t"}, B), dict(b=3, t=64), dict(b=2, t=32), in_channels=14, out_channels=14, block_out_channels=(16, 32), down_block_types=("DownResnetBlock1D", "DownResnetBlock1D"), up_block_types=("UpResnetBlock1D",), mid_block_type="MidResTemporalBlock1D", out_block_type="OutConv1DBlock", layers_per_block=1, act_fn="swish", norm_num_groups=4, use_timestep_embedding=True, time_embedding_type="positional", flip_sin_to_cos=False, freq_shift=1, extra_in_channels=0)
diffuser("UNet3DConditionModel", lambda r, b=2, t=3, h=8, w=8, s=5: (r.n(b, 4, t, h, w), r.i(0, 99, b), r.n(b, s, 12)), ({0: "b", 2: "t"}, B, {0: "b", 1: "s"}), dict(b=3, t=4, s=7), dict(b=2, t=3, s=5),
         block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, cross_attention_dim=12, attention_head_dim=4, down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"), up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"))
diffuser("DiTTransformer2DModel", lambda r, b=2: (r.n(b, 4, 8, 8), r.i(0, 99, b), r.i(0, 9, b)), (B, B, B), dict(b=3), dict(b=2), call=lambda m, x, t, c: m(x, timestep=t, class_labels=c, return_dict=False), sample_size=8, num_layers=2, num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_embeds_ada_norm=10, patch_size=2)
diffuser("PixArtTransformer2DModel", lambda r, b=2, s=5: (r.n(b, 4, 8, 8), r.n(b, s, 12), r.i(0, 99, b)), (B, {0: "b", 1: "s"}, B), dict(b=3, s=7), dict(b=2, s=5), call=lambda m, x, e, t: m(x, e, timestep=t, added_cond_kwargs=dict(resolution=None, aspect_ratio=None), return_dict=False), sample_size=8, num_layers=2, num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, cross_attention_dim=16, caption_channels=12, patch_size=2, norm_num_groups=1, use_additional_conditions=False)
diffuser("SD3Transformer2DModel", lambda r, b=2, h=8, w=8, s=5: (r.n(b, 4, h, w), r.n(b, s, 12), r.n(b, 20), r.i(0, 99, b)), (BHW, {0: "b", 1: "s"}, B, B), dict(b=3, h=12, w=10, s=7), dict(b=2, h=8, w=8, s=5), sample_size=8, patch_size=2, in_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=2, joint_attention_dim=12, caption_projection_dim=16, pooled_projection_dim=20, out_channels=4, pos_embed_max_size=16)
diffuser("FluxTransformer2DModel", lambda r, b=2, n=16, s=5: (r.n(b, n, 4), r.n(b, s, 12), r.n(b, 20), r.u(b), torch.stack([torch.zeros(n), torch.arange(n) // 4, torch.arange(n) % 4], 1).float(), torch.zeros(s, 3)), ({0: "b", 1: "n"}, {0: "b", 1: "s"}, B, B, {0: "n"}, {0: "s"}), dict(b=3, n=24, s=7), dict(b=2, n=16, s=5),
         call=lambda m, x, e, p, t, i, j: m(x, e, p, t, i, j, return_dict=False), patch_size=1, in_channels=4, num_layers=1, num_single_layers=2, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=12, pooled_projection_dim=20, axes_dims_rope=(4, 4, 8))
diffuser("SanaTransformer2DModel", lambda r, b=2, s=5: (r.n(b, 4, 8, 8), r.n(b, s, 12), r.i(0, 99, b)), (B, {0: "b", 1: "s"}, B), dict(b=3, s=7), dict(b=2, s=5), in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=2, num_cross_attention_heads=2, cross_attention_head_dim=8, cross_attention_dim=16, caption_channels=12, sample_size=8)
diffuser("CogVideoXTransformer3DModel", lambda r, b=2, t=3, s=5: (r.n(b, t, 4, 8, 8), r.n(b, s, 12), r.i(0, 99, b)), (B, B, B), dict(b=3), dict(b=2), call=lambda m, x, e, t: m(x, e, t, return_dict=False), num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=8, text_embed_dim=12, num_layers=1, sample_width=8, sample_height=8, sample_frames=9, patch_size=2, max_text_seq_length=5)
diffuser("WanTransformer3DModel", lambda r, b=2, t=3, h=8, w=8, s=5: (r.n(b, 4, t, h, w), r.i(0, 99, b), r.n(b, s, 12)), (BTHW, B, {0: "b", 1: "s"}), dict(b=3, t=4, h=12, w=10, s=7), dict(b=2, t=3, h=8, w=8, s=5), patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=12, freq_dim=16, ffn_dim=32, num_layers=2, cross_attn_norm=True, qk_norm="rms_norm_across_heads", rope_max_seq_len=32)
diffuser("LTXVideoTransformer3DModel", lambda r, b=2, s=5: (r.n(b, 3 * 16, 4), r.n(b, s, 12), r.i(0, 99, b), torch.ones(b, s)), (B, {0: "b", 1: "s"}, B, {0: "b", 1: "s"}), dict(b=3, s=7), dict(b=2, s=5), call=lambda m, x, e, t, k: m(x, e, t, k, 3, 4, 4, return_dict=False), in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8, cross_attention_dim=16, num_layers=1, caption_channels=12, qk_norm="rms_norm_across_heads")
diffuser("StableAudioDiTModel", lambda r, b=2, t=8, s=5: (r.n(b, 3, t), r.i(0, 99, b), r.n(b, s, 10), r.n(b, 1, 5)), ({0: "b", 2: "t"}, B, {0: "b", 1: "s"}, B), dict(b=3, t=11, s=7), dict(b=2, t=8, s=5), call=lambda m, x, t, e, g: m(x, t, encoder_hidden_states=e, global_hidden_states=g, rotary_embedding=None, return_dict=False), sample_size=4, in_channels=3, num_layers=2, attention_head_dim=4, num_key_value_attention_heads=2, out_channels=3, cross_attention_dim=10, time_proj_dim=8, global_states_input_dim=5, cross_attention_input_dim=10, num_attention_heads=4)
diffuser("PriorTransformer", lambda r, b=2: (r.n(b, 16), r.i(0, 99, b), r.n(b, 16), r.n(b, 5, 16)), (B, B, B, B), dict(b=3), dict(b=2), num_attention_heads=2, attention_head_dim=8, num_layers=2, embedding_dim=16, num_embeddings=5, additional_embeddings=4)
diffuser("T2IAdapter", lambda r, b=2, h=32, w=32: (r.n(b, 3, h, w),), (BHW,), dict(b=3, h=48, w=64), dict(b=2, h=32, w=32), call=lambda m, x: m(x), take=lambda y: y, in_channels=3, channels=[8, 16], num_res_blocks=1, downscale_factor=8)
diffuser("AutoencoderOobleck", lambda r, b=2, n=128: (r.n(b, 2, n),), ({0: "b", 2: "n"},), dict(b=3, n=192), dict(b=2, n=128), encoder_hidden_size=8, downsampling_ratios=[2, 4], decoder_channels=8, decoder_input_channels=4, audio_channels=2, channel_multiples=[1, 2])


# ---- graphs (torch-geometric) ----
def graph(r, n=12, e=30):
    return r.n(n, 8), torch.stack([r.i(0, n, e), r.i(0, n, e)])


GDYN = ({0: "n"}, {1: "e"})


def pyg(name, take=lambda y: y, dyn=GDYN, inputs=graph, **kw):
    cls = kw.pop("cls", name)
    add(f"pyg/{name}", lambda: Call(of("torch_geometric.nn", cls)(**kw), take), inputs, (dyn,), dict(n=17, e=41), n=12, e=30)


pyg("GCN", in_channels=8, hidden_channels=16, num_layers=2, out_channels=4)
pyg("GAT", in_channels=8, hidden_channels=16, num_layers=2, out_channels=4, heads=2)
pyg("GATv2", cls="GAT", in_channels=8, hidden_channels=16, num_layers=2, out_channels=4, heads=2, v2=True)
pyg("GraphSAGE", in_channels=8, hidden_channels=16, num_layers=2, out_channels=4)
pyg("SageMax", cls="GraphSAGE", in_channels=8, hidden_channels=16, num_layers=2, out_channels=4, aggr="max", jk="cat")
pyg("GIN", in_channels=8, hidden_channels=16, num_layers=2, out_channels=4)
pyg("TransformerConv", in_channels=8, out_channels=4, heads=2, beta=True)
pyg("GatedGraphConv", out_channels=8, num_layers=2)
pyg("ChebConv", in_channels=8, out_channels=4, K=3)
pyg("TAGConv", in_channels=8, out_channels=4)
pyg("ARMAConv", in_channels=8, out_channels=4, num_stacks=2, num_layers=2)
pyg("APPNP", K=3, alpha=0.1)
pyg("GENConv", in_channels=8, out_channels=4, aggr="softmax", learn_t=True)
pyg("LEConv", in_channels=8, out_channels=4)
pyg("SuperGATConv", in_channels=8, out_channels=4, heads=2)
pyg("PNA", cls="PNAConv", in_channels=8, out_channels=4, aggregators=["mean", "min", "max", "std"], scalers=["identity", "amplification", "attenuation"], deg=torch.tensor([0, 3, 5, 2, 1]))
pyg("RGCNConv", inputs=lambda r, n=12, e=30: (*graph(r, n, e), r.i(0, 3, e)), dyn=({0: "n"}, {1: "e"}, {0: "e"}), in_channels=8, out_channels=4, num_relations=3)
pyg("NNConv", inputs=lambda r, n=12, e=30: (*graph(r, n, e), r.n(e, 5)), dyn=({0: "n"}, {1: "e"}, {0: "e"}), in_channels=8, out_channels=4, nn=nn.Linear(5, 32))
pyg("GINEConv", inputs=lambda r, n=12, e=30: (*graph(r, n, e), r.n(e, 8)), dyn=({0: "n"}, {1: "e"}, {0: "e"}), nn=nn.Linear(8, 8))


def pooled(kind):
    def build():
        import torch_geometric.nn as g

        class Pooled(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv, self.pool = g.GCNConv(8, 8), getattr(g, kind)(8, **({"ratio": 0.5} if kind in ("TopKPooling", "SAGPooling") else {}))

            def forward(self, x, edge_index, batch):
                x = self.conv(x, edge_index).relu()
                out = self.pool(x, edge_index, batch=batch)
                return out[0], out[4] if len(out) > 4 else out[3]

        return Pooled()

    return build


add("pyg/TopKPooling", pooled("TopKPooling"), lambda r, n=12, e=30: (*graph(r, n, e), r.i(0, 3, n).sort().values), ({0: "n"}, {1: "e"}, {0: "n"}), dict(n=17, e=41), n=12, e=30)
add("pyg/SchNetInteraction", lambda: Call(importlib.import_module("torch_geometric.nn.models.schnet").InteractionBlock(8, 10, 8, 5.0)), lambda r, n=12, e=30: (*graph(r, n, e), r.u(e) * 5, r.n(e, 10)), (({0: "n"}, {1: "e"}, {0: "e"}, {0: "e"}),), dict(n=17, e=41), n=12, e=30)
add("pyg/SetTransformer", lambda: Call(importlib.import_module("torch_geometric.nn.aggr").DeepSetsAggregation(nn.Linear(8, 8), nn.Linear(8, 4)), call=lambda m, x, i: m(x, i, dim_size=3)), lambda r, n=12, e=30: (r.n(n, 8), r.i(0, 3, n).sort().values), (({0: "n"}, {0: "n"}),), dict(n=17), n=12)

# ---- segmentation ----
SEG_IN = lambda r, b=2, h=64, w=96: (r.n(b, 3, h, w),)
for _n, _kw in dict(Unet={}, UnetPlusPlus={}, FPN={}, PSPNet={}, Linknet={}, MAnet={}, PAN={}, DeepLabV3Plus={}, UPerNet={}, Segformer={}).items():
    add(f"smp/{_n}", lambda n=_n: of("segmentation_models_pytorch", n)(encoder_name="resnet18", encoder_weights=None, classes=4), SEG_IN, ((B if _n == "PAN" else BHW),), dict(b=3) if _n == "PAN" else dict(b=3, h=96, w=64), **(dict(b=2, h=128, w=128) if _n == "PAN" else dict(b=2, h=64, w=96)))

# ---- volumes (MONAI) ----
VOL = lambda r, b=2, d=16, h=16, w=16: (r.n(b, 1, d, h, w),)
for _n, _dyn, _kw in (
    ("SegResNet", BDHW, dict(spatial_dims=3, init_filters=8, in_channels=1, out_channels=2, blocks_down=(1, 2), blocks_up=(1,))),
    ("AttentionUnet", BDHW, dict(spatial_dims=3, in_channels=1, out_channels=2, channels=(4, 8), strides=(2,))),
    ("BasicUNetPlusPlus", B, dict(spatial_dims=3, in_channels=1, out_channels=2, features=(4, 4, 8, 8, 8, 4))),
    ("UNet", BDHW, dict(spatial_dims=3, in_channels=1, out_channels=2, channels=(4, 8, 16), strides=(2, 2), num_res_units=1)),
    ("HighResNet", BDHW, dict(spatial_dims=3, in_channels=1, out_channels=2)),
    ("UNETR", B, dict(in_channels=1, out_channels=2, img_size=(16, 16, 16), feature_size=4, hidden_size=16, mlp_dim=32, num_heads=2)),
    ("DynUNet", B, dict(spatial_dims=3, in_channels=1, out_channels=2, kernel_size=[3, 3, 3], strides=[1, 2, 2], upsample_kernel_size=[2, 2], filters=[4, 8, 16])),
    ("DenseNet121", B, dict(spatial_dims=2, in_channels=1, out_channels=2)),
):
    _in = (lambda r, b=2: (r.n(b, 1, 64, 64),)) if _n == "DenseNet121" else (lambda r, b=2, s=32 if _n == "BasicUNetPlusPlus" else 16: VOL(r, b, s, s, s)) if _dyn is B else VOL
    add(f"monai/{_n}", lambda n=_n, kw=_kw: of("monai.networks.nets", n)(**kw), _in, (_dyn,), dict(b=3) if _dyn is B else dict(b=3, d=32, h=16, w=48), **(dict(b=2) if _dyn is B else dict(b=2, d=16, h=16, w=16)))


# ---- pictures (kornia) ----
class Kornia(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, *x):
        import kornia

        return self.f(kornia, *x)


KIN = lambda r, b=2, h=20, w=28: (r.u(b, 3, h, w),)
for _n, _f in dict(
    blur=lambda k, x: k.filters.gaussian_blur2d(x, (5, 5), (1.5, 1.5)),
    edges=lambda k, x: (k.filters.sobel(x), k.filters.laplacian(x, 3), k.filters.spatial_gradient(x)),
    canny=lambda k, x: k.filters.canny(x, hysteresis=False),
    median=lambda k, x: k.filters.median_blur(x, (3, 3)),
    bilateral=lambda k, x: k.filters.bilateral_blur(x, (3, 3), 0.1, (1.5, 1.5)),
    colours=lambda k, x: (k.color.rgb_to_lab(x), k.color.rgb_to_hsv(x), k.color.rgb_to_ycbcr(x), k.color.rgb_to_luv(x), k.color.hsv_to_rgb(x), k.color.rgb_to_hls(x)),
    morphology=lambda k, x: (k.morphology.dilation(x, torch.ones(3, 3)), k.morphology.opening(x, torch.ones(3, 3))),
    corners=lambda k, x: (k.feature.harris_response(x), k.feature.gftt_response(x)),
    ssim=lambda k, x: k.metrics.ssim(x, x.flip(-1), 5),
    pyramid=lambda k, x: (k.geometry.transform.pyrdown(x), k.geometry.transform.pyrup(x)),
    rotate=lambda k, x: k.geometry.transform.rotate(x, torch.full((x.shape[0],), 30.0)),
    enhance=lambda k, x: (k.enhance.equalize_clahe(x, grid_size=(2, 2)) if False else k.enhance.adjust_contrast(x, 0.7), k.enhance.adjust_hue(x, 0.3), k.enhance.sharpness(x, 1.5), k.enhance.normalize_min_max(x)),
    distance=lambda k, x: k.contrib.distance_transform((x > 0.5).float()),
).items():
    add(f"kornia/{_n}", lambda f=_f: Kornia(f), KIN, ((BHW,),), dict(b=3, h=26, w=24), b=2, h=20, w=28)
add("kornia/perspective", lambda: Kornia(lambda k, x, m: k.geometry.transform.warp_perspective(x, m, (16, 18))), lambda r, b=2, h=20, w=28: (r.u(b, 3, h, w), torch.eye(3) + r.n(b, 3, 3) * 0.01), ((BHW, B),), dict(b=3, h=26, w=24), b=2, h=20, w=28)
add("kornia/poses", lambda: Kornia(lambda k, q, v: (k.geometry.conversions.quaternion_to_rotation_matrix(q), k.geometry.conversions.axis_angle_to_quaternion(v), k.geometry.conversions.axis_angle_to_rotation_matrix(v))), lambda r, b=3: (F.normalize(r.n(b, 4), dim=-1), r.n(b, 3)), ((B, B),), dict(b=5), b=3)
add("kornia/HardNet", lambda: of("kornia.feature", "HardNet")(pretrained=False), lambda r, b=3: (r.u(b, 1, 32, 32),), (B,), dict(b=5), b=3)

# ---- vision transformers (vit-pytorch) ----
VIT = dict(image_size=32, patch_size=8, num_classes=10, dim=32, depth=2, heads=2, mlp_dim=64)
VITIN = lambda r, b=2: (r.n(b, 3, 32, 32),)
for _m, _n, _kw in (
    ("simple_vit", "SimpleViT", VIT), ("cait", "CaiT", {**VIT, "cls_depth": 1}), ("deepvit", "DeepViT", VIT), ("vit_for_small_dataset", "ViT", VIT),
    ("parallel_vit", "ViT", VIT), ("simple_vit_with_register_tokens", "SimpleViT", VIT), ("simple_vit_with_fft", "SimpleViT", {**VIT, "freq_patch_size": 8}),
    ("vit_with_patch_dropout", "ViT", VIT), ("rvt", "RvT", VIT), ("xcit", "XCiT", {**VIT, "cls_depth": 1}), ("learnable_memory_vit", "ViT", VIT),
    ("cct", "CCT", dict(img_size=32, embedding_dim=32, n_conv_layers=1, num_layers=2, num_heads=2, num_classes=10, positional_embedding="learnable")),
    ("mobile_vit", "MobileViT", dict(image_size=(64, 64), dims=[16, 24, 32], channels=[8, 8, 8, 8, 16, 16, 24, 24, 32, 32, 32], num_classes=10)),
    ("twins_svt", "TwinsSVT", dict(num_classes=10, s1_emb_dim=8, s2_emb_dim=8, s3_emb_dim=16, s4_emb_dim=16, s1_local_patch_size=4, s1_global_k=4, s2_local_patch_size=2, s2_global_k=2, s3_depth=1, s3_local_patch_size=2, s3_global_k=2, s4_local_patch_size=1, s4_global_k=1)),
    ("max_vit", "MaxViT", dict(num_classes=10, dim_conv_stem=8, dim=8, dim_head=4, depth=(1, 1), window_size=4)), ("regionvit", "RegionViT", dict(dim=(8, 16, 16, 16), depth=(1, 1, 1, 1), window_size=2, num_classes=10)),
    
    ("nest", "NesT", dict(image_size=32, patch_size=4, dim=16, heads=2, num_hierarchies=2, block_repeats=(1, 1), num_classes=10)),
):
    _s = 64 if _m in ("mobile_vit", "twins_svt", "regionvit", "crossformer") else 32
    add(f"vit/{_m}", lambda m=_m, n=_n, kw=_kw: of(f"vit_pytorch.{m}", n)(**kw), lambda r, b=2, s=_s: (r.n(b, 3, s, s),), (B,), dict(b=3), b=2)

# ---- language models of odd kinds (x-transformers) ----
for _n, _kw in dict(
    rotary=dict(rotary_pos_emb=True), alibi=dict(alibi_pos_bias=True), relative=dict(rel_pos_bias=True), dynamic_bias=dict(dynamic_pos_bias=True), sandwich=dict(sandwich_coef=1),
    gqa=dict(attn_kv_heads=1, rotary_pos_emb=True), glu=dict(ff_glu=True, ff_swish=True, use_rmsnorm=True), talking=dict(attn_pre_talking_heads=True, attn_post_talking_heads=True), sparse=dict(attn_sparse_topk=4), qknorm=dict(attn_qk_norm=True), gated=dict(gate_residual=True), shift=dict(shift_tokens=1), macaron=dict(macaron=True), memory=dict(attn_num_mem_kv=4), residual=dict(residual_attn=True), hybrid=dict(attn_gate_values=True),
).items():
    def _build(kw=_kw, n=_n):
        x = importlib.import_module("x_transformers")
        return x.TransformerWrapper(num_tokens=50, max_seq_len=32, use_abs_pos_emb=n not in ("rotary", "alibi"), attn_layers=x.Decoder(dim=32, depth=2, heads=2, attn_dim_head=16, **kw))

    add(f"xtransformers/{_n}", _build, lambda r, b=2, t=9: (r.i(0, 50, b, t),), (BT,), dict(b=3, t=12), b=2, t=9)


# ---- adapters (peft) ----
def adapted(kind, **kw):
    def build():
        import peft
        import transformers

        c = transformers.LlamaConfig(vocab_size=99, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=37, num_key_value_heads=2, max_position_embeddings=64)
        c.use_cache = False
        return peft.get_peft_model(transformers.LlamaForCausalLM(c), getattr(peft, kind)(task_type="CAUSAL_LM", **kw))

    text = lambda r, b=2, s=8: ((), dict(input_ids=r.i(3, 99, b, s), attention_mask=torch.ones(b, s, dtype=torch.long)))
    add(f"peft/{kind}{'D' if kw.get('use_dora') else ''}", build, text, dict(input_ids=BT, attention_mask=BT), dict(b=3, s=11), b=2, s=8)


adapted("LoraConfig", r=4, target_modules=["q_proj", "v_proj"])
adapted("LoraConfig", r=4, use_dora=True, target_modules=["q_proj", "v_proj"])
adapted("IA3Config", target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"])
adapted("LoHaConfig", r=4, target_modules=["q_proj", "v_proj"])
adapted("LoKrConfig", r=4, target_modules=["q_proj", "v_proj"])
adapted("OFTConfig", r=0, oft_block_size=4, target_modules=["q_proj", "v_proj"])
adapted("VeraConfig", r=4, target_modules=["q_proj", "v_proj"])


# ---- quantised in blocks (torchao) ----
class Affine(nn.Module):
    def __init__(self, mapping, block, codes):
        super().__init__()
        self.mapping, self.block, self.codes = mapping, block, codes
        self.w = nn.Parameter(torch.randn(16, 32))

    def forward(self, x):
        import torchao.quantization  # noqa: F401  registers the operators

        ops = torch.ops.torchao

        def grid(v, block, codes):
            scale, zero = ops.choose_qparams_affine(v, self.mapping, block, torch.int8, *codes, 1e-6, torch.float32, torch.int8)
            q = ops.quantize_affine(v, block, scale, zero, torch.int8, *codes)
            return ops.dequantize_affine(q, block, scale, zero, torch.int8, *codes), q, scale, zero

        w = grid(self.w, self.block, self.codes)
        y = grid(x, [1, 32], (None, None))
        return (F.linear(y[0], w[0]), *y, *w)


for _m, _b, _c in (("SYMMETRIC", [1, 8], (-7, 7)), ("ASYMMETRIC", [1, 32], (-128, 127)), ("SYMMETRIC_NO_CLIPPING_ERR", [16, 32], (-8, 7))):
    add(f"torchao/{_m}", lambda m=_m, b=_b, c=_c: Affine(m, b, c), lambda r, b=3: (r.n(b, 32),), (B,), dict(b=5), b=3)
