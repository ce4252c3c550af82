"""Writes models with random weights into a directory.

    tiny.py DIR

DIR/tiny-F32.gguf is a llama of two layers for llama.cpp, DIR/sharded a set of
safetensors, DIR/onnx a graph whose weights lie in a file of their own.
"""

import json
import os
import sys

import gguf
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

root = sys.argv[1]
rng = np.random.default_rng(7)


def normal(*shape):
    return (rng.standard_normal(shape) * 0.05).astype(np.float32)


def write_gguf(path):
    width, hidden, heads, layers, context = 256, 1024, 4, 2, 128
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL] + [gguf.TokenType.BYTE] * 256
    w = gguf.GGUFWriter(path, "llama")
    w.add_name("tiny")
    w.add_context_length(context)
    w.add_embedding_length(width)
    w.add_block_count(layers)
    w.add_feed_forward_length(hidden)
    w.add_head_count(heads)
    w.add_head_count_kv(heads)
    w.add_rope_dimension_count(width // heads)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_file_type(gguf.LlamaFileType.ALL_F32)
    w.add_tokenizer_model("llama")
    w.add_token_list(tokens)
    w.add_token_scores([0.0] * len(tokens))
    w.add_token_types(kinds)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)
    w.add_tensor("token_embd.weight", normal(len(tokens), width))
    w.add_tensor("output.weight", normal(len(tokens), width))
    w.add_tensor("output_norm.weight", np.ones(width, np.float32))
    for i in range(layers):
        w.add_tensor(f"blk.{i}.attn_norm.weight", np.ones(width, np.float32))
        w.add_tensor(f"blk.{i}.ffn_norm.weight", np.ones(width, np.float32))
        for name in "attn_q", "attn_k", "attn_v", "attn_output":
            w.add_tensor(f"blk.{i}.{name}.weight", normal(width, width))
        w.add_tensor(f"blk.{i}.ffn_gate.weight", normal(hidden, width))
        w.add_tensor(f"blk.{i}.ffn_up.weight", normal(hidden, width))
        w.add_tensor(f"blk.{i}.ffn_down.weight", normal(width, hidden))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def write_sharded(directory):
    os.makedirs(directory)
    places = {}
    for shard in 1, 2:
        name = f"model-{shard:05d}-of-00002.safetensors"
        tensors = {f"layer.{shard}.{i}": normal(512, 1024) for i in range(2)}
        save_file(tensors, os.path.join(directory, name))
        places |= dict.fromkeys(tensors, name)
    with open(os.path.join(directory, "model.safetensors.index.json"), "w") as f:
        json.dump({"metadata": {}, "weight_map": places}, f)
    with open(os.path.join(directory, "config.json"), "w") as f:
        json.dump({"model_type": "llama"}, f)


def write_onnx(directory):
    os.makedirs(directory)
    weights = [numpy_helper.from_array(normal(1024, 1024), f"w{i}") for i in range(2)]
    nodes = [helper.make_node("MatMul", ["x", "w0"], ["h"]), helper.make_node("Tanh", ["h"], ["t"]), helper.make_node("MatMul", ["t", "w1"], ["y"])]
    shape = [1, 1024]
    graph = helper.make_graph(nodes, "tiny", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save_model(model, os.path.join(directory, "model.onnx"), save_as_external_data=True, all_tensors_to_one_file=True,
                    location="model.onnx_data", size_threshold=1024)


write_gguf(os.path.join(root, "tiny-F32.gguf"))
write_sharded(os.path.join(root, "sharded"))
write_onnx(os.path.join(root, "onnx"))
