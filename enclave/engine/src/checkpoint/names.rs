//! The families whose checkpoints are read: what their files call tensors, and how these differ from those
//! of GGUF files.

/// How the checkpoints of a family are written.
pub(super) struct Family {
    /// `architectures` in `config.json`.
    pub(super) class: &'static str,
    /// `general.architecture` of GGUF files.
    pub(super) architecture: &'static str,
    /// Of the tensors of a layer, the name here and there.
    layer: &'static [[&'static str; 2]],
    /// Whether rows of query and key weights are in halves of heads, where the decoder turns neighbours.
    pub(super) turned: bool,
    /// Whether norms are stored as what their weights are more than one.
    pub(super) norms_above_one: bool,
    /// What `tie_word_embeddings` is if the file does not say.
    pub(super) tied: bool,
}

impl Family {
    /// The name in GGUF files.
    pub(super) fn rename(&self, name: &str) -> Option<String> {
        let name = name.strip_suffix(".weight")?;
        if let Some([_, to]) = OUTSIDE.iter().find(|[from, _]| *from == name) {
            return Some(format!("{to}.weight"));
        }
        let (block, part) = name.strip_prefix("model.layers.")?.split_once('.')?;
        // A number as we would write it: one tensor has one name.
        let number = block.parse::<u32>().ok().filter(|n| n.to_string() == block)?;
        let [_, to] = self.layer.iter().find(|[from, _]| *from == part)?;
        Some(format!("blk.{number}.{to}.weight"))
    }

    /// Whether the rows of this tensor of a GGUF file are reordered.
    pub(super) fn turns(&self, name: &str) -> bool {
        self.turned && [".attn_q.weight", ".attn_k.weight"].iter().any(|part| name.ends_with(part))
    }
}

pub(super) const FAMILIES: [Family; 4] = [
    Family {
        class: "LlamaForCausalLM",
        architecture: "llama",
        layer: &LLAMA,
        turned: true,
        norms_above_one: false,
        tied: false,
    },
    Family {
        class: "MistralForCausalLM",
        architecture: "llama",
        layer: &LLAMA,
        turned: true,
        norms_above_one: false,
        tied: false,
    },
    Family {
        class: "Qwen3ForCausalLM",
        architecture: "qwen3",
        layer: &QWEN3,
        turned: false,
        norms_above_one: false,
        tied: false,
    },
    Family {
        class: "Gemma3ForCausalLM",
        architecture: "gemma3",
        layer: &GEMMA3,
        turned: false,
        norms_above_one: true,
        tied: true,
    },
];
/// The table's names, for messages.
pub(super) const SUPPORTED: &str =
    "LlamaForCausalLM, MistralForCausalLM, Qwen3ForCausalLM, Gemma3ForCausalLM";

const OUTSIDE: [[&str; 2]; 3] =
    [["model.embed_tokens", "token_embd"], ["model.norm", "output_norm"], ["lm_head", "output"]];

const LLAMA: [[&str; 2]; 9] = [
    ["input_layernorm", "attn_norm"],
    ["self_attn.q_proj", "attn_q"],
    ["self_attn.k_proj", "attn_k"],
    ["self_attn.v_proj", "attn_v"],
    ["self_attn.o_proj", "attn_output"],
    ["post_attention_layernorm", "ffn_norm"],
    ["mlp.gate_proj", "ffn_gate"],
    ["mlp.up_proj", "ffn_up"],
    ["mlp.down_proj", "ffn_down"],
];

const QWEN3: [[&str; 2]; 11] = [
    ["input_layernorm", "attn_norm"],
    ["self_attn.q_proj", "attn_q"],
    ["self_attn.k_proj", "attn_k"],
    ["self_attn.v_proj", "attn_v"],
    ["self_attn.o_proj", "attn_output"],
    ["self_attn.q_norm", "attn_q_norm"],
    ["self_attn.k_norm", "attn_k_norm"],
    ["post_attention_layernorm", "ffn_norm"],
    ["mlp.gate_proj", "ffn_gate"],
    ["mlp.up_proj", "ffn_up"],
    ["mlp.down_proj", "ffn_down"],
];

/// Here the norm behind attention has the name that it has before the feed-forward part elsewhere.
const GEMMA3: [[&str; 2]; 13] = [
    ["input_layernorm", "attn_norm"],
    ["self_attn.q_proj", "attn_q"],
    ["self_attn.k_proj", "attn_k"],
    ["self_attn.v_proj", "attn_v"],
    ["self_attn.o_proj", "attn_output"],
    ["self_attn.q_norm", "attn_q_norm"],
    ["self_attn.k_norm", "attn_k_norm"],
    ["post_attention_layernorm", "post_attention_norm"],
    ["pre_feedforward_layernorm", "ffn_norm"],
    ["mlp.gate_proj", "ffn_gate"],
    ["mlp.up_proj", "ffn_up"],
    ["mlp.down_proj", "ffn_down"],
    ["post_feedforward_layernorm", "post_ffw_norm"],
];
