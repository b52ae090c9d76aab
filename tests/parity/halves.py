#!/usr/bin/env python3
"""An oracle of what runs on a GPU: the default model by `transformers`, in bfloat16, on the same GPU.

Usage: halves.py JOBS.json, as of reference.py, whose reader of files it uses. Needs torch and
transformers 5, which are too large to be installed for it: CHRYSALIS_TORCH_PYTHON names a Python that
has them.
"""

import json
import sys

import torch
from reference import File, Model
from transformers import LlamaConfig, LlamaForCausalLM

LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def halves(weight, heads):
    """Rows of queries or keys whose pairs are neighbours, so that they are the halves of a head."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def load(path):
    """The model of a GGUF of the family `llama`."""
    file = File(path)
    ours = Model(file)
    assert ours.family == "llama", ours.family
    vocabulary = file.tensors["token_embd.weight"][0][0]
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=ours.hidden,
        intermediate_size=ours.key("feed_forward_length"),
        num_hidden_layers=ours.key("block_count"),
        num_attention_heads=ours.heads,
        num_key_value_heads=ours.kv_heads,
        head_dim=ours.dim,
        rms_norm_eps=ours.epsilon,
        rope_parameters={"rope_type": "default", "rope_theta": ours.key("rope.freq_base", 10_000.0)},
        max_position_embeddings=ours.key("context_length"),
        tie_word_embeddings="output.weight" not in file.tensors,
    )
    state = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}
    if not config.tie_word_embeddings:
        state["lm_head"] = "output"
    for block in range(config.num_hidden_layers):
        state |= {f"model.layers.{block}.{key}": f"blk.{block}.{name}" for key, name in LAYER.items()}
    weights = {}
    for key, name in state.items():
        weight = file.tensor(name + ".weight")
        heads = {"attn_q": ours.heads, "attn_k": ours.kv_heads}.get(name.split(".")[-1])
        weight = weight if heads is None else halves(weight, heads)
        weights[key + ".weight"] = torch.from_numpy(weight.copy())
    model = LlamaForCausalLM(config)
    missing, unknown = model.load_state_dict(weights, strict=False)
    missing = [name for name in missing if not (config.tie_word_embeddings and name == "lm_head.weight")]
    assert not missing and not unknown, (missing, unknown)
    model.tie_weights()
    model.eval().to("cuda")
    # Not the tables of the rotary embedding, which are buffers.
    for weight in model.parameters():
        weight.data = weight.data.to(torch.bfloat16)
    assert all(buffer.dtype == torch.float32 for name, buffer in model.named_buffers() if "inv_freq" in name)
    return model


def logits(model, ids):
    """After each token; the last product in single precision, or rounding would make ties of near ones."""
    with torch.no_grad():
        states = model.model(torch.tensor([ids], device="cuda")).last_hidden_state[0]
        return states.float() @ model.lm_head.weight.float().T


def main():
    """Does the jobs."""
    with open(sys.argv[1], encoding="utf-8") as jobs:
        for job in json.load(jobs):
            out = logits(load(job["model"]), job["ids"])
            out.cpu().numpy().astype("<f4").tofile(job["out"])


if __name__ == "__main__":
    main()
