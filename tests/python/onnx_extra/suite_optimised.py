"""Small models of real families, as onnxruntime writes them after optimising: its graph optimiser at each level, its
transformer optimiser, and its quantiser in front of both."""
import contextlib
import io
import os
import tempfile
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import onnx
import onnxruntime as ort

LEVELS = {
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}

# Where nothing in the file tells the block in which onnxruntime packed the weights, the model is declined.
KNOWN = {f"{m}_all": "weights drawn at random, and in sizes that fit blocks of 8 and of 16 channels alike" for m in ["vit", "resnet"]}


FAMILIES = ["bert", "gpt2", "llama", "qwen2", "distilbert", "electra", "t5", "clip", "vit", "resnet", "convnext", "efficientnet", "mobilenet", "shufflenet"]


def models():
    import timm
    import torch
    import torchvision
    from transformers import (BertConfig, BertModel, CLIPTextConfig, CLIPTextModel, DistilBertConfig, DistilBertModel, ElectraConfig, ElectraModel, GPT2Config,
                              GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, T5Config, T5EncoderModel)

    torch.manual_seed(0)
    ids, mask = torch.randint(0, 99, [2, 7]), torch.ones(2, 7, dtype=torch.int64)
    mask[0, 5:] = 0
    sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, vocab_size=99, max_position_embeddings=40)
    bert = BertModel(BertConfig(**sizes, attn_implementation="eager"))
    bert_inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    yield "bert", bert, bert_inputs, "bert"
    # The older exporter writes what the fusions of onnxruntime look for.
    yield "bert_script", bert, bert_inputs, "bert"
    gpt2 = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=99, n_positions=40, use_cache=False, attn_implementation="eager"))
    yield "gpt2", gpt2, {"input_ids": ids, "attention_mask": mask}, "gpt2"
    llama = LlamaForCausalLM(LlamaConfig(**sizes, num_key_value_heads=2, use_cache=False, attn_implementation="eager"))
    yield "gpt2_script", gpt2, {"input_ids": ids, "attention_mask": mask}, "gpt2"
    yield "llama", llama, {"input_ids": ids, "attention_mask": mask}, None
    words = {"input_ids": ids, "attention_mask": mask}
    yield "qwen2", Qwen2ForCausalLM(Qwen2Config(**sizes, num_key_value_heads=2, use_cache=False, attn_implementation="eager")), words, None
    distilled = DistilBertConfig(dim=32, n_layers=2, n_heads=4, hidden_dim=64, vocab_size=99, max_position_embeddings=40, attn_implementation="eager")
    yield "distilbert_script", DistilBertModel(distilled), words, "bert"
    yield "electra", ElectraModel(ElectraConfig(**sizes, embedding_size=32, attn_implementation="eager")), words, "bert"
    t5 = T5Config(d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, vocab_size=99)
    yield "t5", T5EncoderModel(t5), words, None
    clip = CLIPTextConfig(**{**sizes, "vocab_size": 99}, eos_token_id=98, bos_token_id=97, pad_token_id=0, attn_implementation="eager")
    yield "clip", CLIPTextModel(clip), words, None
    image = torch.randn(1, 3, 160, 160)
    yield "efficientnet", timm.create_model("test_efficientnet", pretrained=False), {"x": image}, None
    yield "mobilenet", torchvision.models.mobilenet_v3_small(num_classes=10), {"x": image}, None
    yield "shufflenet", torchvision.models.shufflenet_v2_x0_5(num_classes=10), {"x": image}, None
    yield "vit", timm.create_model("test_vit", pretrained=False), {"x": image}, "vit"
    yield "resnet", timm.create_model("test_resnet", pretrained=False), {"x": image}, None
    yield "convnext", timm.create_model("test_convnext", pretrained=False), {"x": image}, None


def export(model, inputs, path, dynamo):
    import torch

    class Tuple(torch.nn.Module):
        def __init__(self, inner, names):
            super().__init__()
            self.inner, self.names = inner, names

        def forward(self, *args):
            out = self.inner(**dict(zip(self.names, args)))
            return out if isinstance(out, torch.Tensor) else out[0]

    names = list(inputs)
    with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        torch.onnx.export(Tuple(model.eval(), names), tuple(inputs.values()), str(path), input_names=names, output_names=["y"], opset_version=18, dynamo=dynamo,
                          **({"external_data": False} if dynamo else {}))


def optimise(path, level, to):
    options = ort.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    options.optimized_model_filepath = str(to)
    options.intra_op_num_threads = 1
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return onnx.load(to)


def written(model):
    """The operators of other domains, for the report."""
    return sorted({f"{n.domain}.{n.op_type}" for n in model.graph.node if n.domain})


def transformers_form(path, kind):
    from onnxruntime.transformers.optimizer import optimize_model

    sizes = (0, 0) if kind == "vit" else (4, 32)
    try:
        return optimize_model(str(path), model_type=kind, num_heads=sizes[0], hidden_size=sizes[1], opt_level=0).model
    except IndexError:  # it looks for a bias that this model has not
        return None


def make(s):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

    class Calibration(CalibrationDataReader):
        def __init__(self, fed):
            self.rest = [fed]

        def get_next(self):
            return self.rest.pop() if self.rest else None

    def add(name, model, fed, **how):
        if s.verbose and s.wants(name):
            print(name, written(model))
        s.model(name, model, fed, **how)

    if s.only.pattern and not any(s.only.search(f"optimised/{m}") for m in FAMILIES):
        return
    for family, model, inputs, kind in models():
        if s.only.pattern and not s.only.search(f"optimised/{family}"):
            continue
        fed = {k: v.numpy() for k, v in inputs.items()}
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            plain = folder / "plain.onnx"
            export(model, inputs, plain, not family.endswith("_script"))
            graph = onnx.load(plain)
            fed = {i.name: fed[i.name] for i in graph.graph.input}
            add(family, graph, fed, rtol=1e-3, atol=1e-4)
            for level in LEVELS:
                add(f"{family}_{level}", optimise(plain, level, folder / f"{level}.onnx"), fed, rtol=1e-3, atol=1e-4)
            if kind:
                fused = transformers_form(plain, kind)
                if fused:
                    add(f"{family}_transformers", fused, fed, rtol=1e-3, atol=1e-4)
            if family in ("convnext", "llama", "qwen2", "t5", "clip"):
                continue
            dynamic = folder / "dynamic.onnx"
            quantize_dynamic(plain, dynamic, weight_type=QuantType.QInt8)
            add(f"{family}_dynamic", onnx.load(dynamic), fed, rtol=0.02, atol=0.02)
            add(f"{family}_dynamic_extended", optimise(dynamic, "extended", folder / "de.onnx"), fed, rtol=0.02, atol=0.02)
            if family in ("resnet", "vit", "mobilenet"):
                for form in (QuantFormat.QDQ, QuantFormat.QOperator):
                    static = folder / "static.onnx"
                    quantize_static(plain, static, Calibration(fed), quant_format=form)
                    add(f"{family}_{form.name.lower()}", onnx.load(static), fed, rtol=0.02, atol=0.05, off=0.02)
                    add(f"{family}_{form.name.lower()}_extended", optimise(static, "extended", folder / "se.onnx"), fed, rtol=0.02, atol=0.05, off=0.02)
