//! The families whose checkpoints are read: what their files call tensors, and how these differ from those
//! of GGUF files.

/// How the checkpoints of a family are written.
pub(super) struct Family {
    /// `architectures` in `config.json`.
    pub(super) class: &'static str,
    /// `general.architecture` of GGUF files.
    pub(super) architecture: &'static str,
    /// Of the tensors of a layer, the name here and there.
    layer: &'static [&'static [[&'static str; 2]]],
    /// Whether rows of query and key weights are in halves of heads, where the decoder turns neighbours.
    pub(super) turned: bool,
    /// Whether norms are stored as what their weights are more than one.
    pub(super) norms_above_one: bool,
    /// What `tie_word_embeddings` is if the file does not say.
    pub(super) tied: bool,
}

impl Family {
    /// The name in GGUF files; of an expert, which has no tensor of its own there, with its number.
    pub(super) fn rename(&self, name: &str) -> Option<String> {
        let name = name.strip_suffix(".weight")?;
        if let Some([_, to]) = OUTSIDE.iter().find(|[from, _]| *from == name) {
            return Some(format!("{to}.weight"));
        }
        let (block, part) = name.strip_prefix("model.layers.")?.split_once('.')?;
        let block = number(block)?;
        if let Some(expert) = part.strip_prefix("mlp.experts.") {
            let (expert, part) = expert.split_once('.')?;
            let to = self.find(&format!("mlp.experts.{part}"))?;
            return Some(format!("blk.{block}.{to}.{}.weight", number(expert)?));
        }
        Some(format!("blk.{block}.{}.weight", self.find(part)?))
    }

    fn find(&self, part: &str) -> Option<&'static str> {
        let [_, to] = self.layer.iter().copied().flatten().find(|[from, _]| *from == part)?;
        Some(*to)
    }

    /// Whether the rows of this tensor of a GGUF file are reordered.
    pub(super) fn turns(&self, name: &str) -> bool {
        self.turned && [".attn_q.weight", ".attn_k.weight"].iter().any(|part| name.ends_with(part))
    }
}

/// A number as we would write it: one tensor has one name.
fn number(text: &str) -> Option<u32> {
    text.parse::<u32>().ok().filter(|n| n.to_string() == text)
}

pub(super) const FAMILIES: [Family; 5] = [
    LLAMA,
    Family { class: "MistralForCausalLM", ..LLAMA },
    QWEN3,
    Family {
        class: MIXTURE,
        architecture: "qwen3moe",
        layer: &[&ATTENTION, &HEAD_NORMS, &NORM, &EXPERTS],
        ..QWEN3
    },
    Family {
        class: "Gemma3ForCausalLM",
        architecture: "gemma3",
        layer: &[&ATTENTION, &HEAD_NORMS, &NORMS_AROUND, &FEED_FORWARD],
        norms_above_one: true,
        tied: true,
        ..QWEN3
    },
];
/// The table's names, for messages.
pub(super) const SUPPORTED: &str = "LlamaForCausalLM, MistralForCausalLM, Qwen3ForCausalLM, Qwen3MoeForCausalLM, Gemma3ForCausalLM";
/// The class of Qwen3 with experts.
pub(super) const MIXTURE: &str = "Qwen3MoeForCausalLM";

const LLAMA: Family = Family {
    class: "LlamaForCausalLM",
    architecture: "llama",
    layer: &[&ATTENTION, &NORM, &FEED_FORWARD],
    turned: true,
    norms_above_one: false,
    tied: false,
};
const QWEN3: Family = Family {
    class: "Qwen3ForCausalLM",
    architecture: "qwen3",
    layer: &[&ATTENTION, &HEAD_NORMS, &NORM, &FEED_FORWARD],
    turned: false,
    ..LLAMA
};

const OUTSIDE: [[&str; 2]; 3] =
    [["model.embed_tokens", "token_embd"], ["model.norm", "output_norm"], ["lm_head", "output"]];
const ATTENTION: [[&str; 2]; 5] = [
    ["input_layernorm", "attn_norm"],
    ["self_attn.q_proj", "attn_q"],
    ["self_attn.k_proj", "attn_k"],
    ["self_attn.v_proj", "attn_v"],
    ["self_attn.o_proj", "attn_output"],
];
const HEAD_NORMS: [[&str; 2]; 2] =
    [["self_attn.q_norm", "attn_q_norm"], ["self_attn.k_norm", "attn_k_norm"]];
const NORM: [[&str; 2]; 1] = [["post_attention_layernorm", "ffn_norm"]];
/// Of Gemma: the norm behind attention has the name that it has before the feed-forward part elsewhere.
const NORMS_AROUND: [[&str; 2]; 3] = [
    ["post_attention_layernorm", "post_attention_norm"],
    ["pre_feedforward_layernorm", "ffn_norm"],
    ["post_feedforward_layernorm", "post_ffw_norm"],
];
const FEED_FORWARD: [[&str; 2]; 3] =
    [["mlp.gate_proj", "ffn_gate"], ["mlp.up_proj", "ffn_up"], ["mlp.down_proj", "ffn_down"]];
/// Their numbers stand between, and are not in the table.
const EXPERTS: [[&str; 2]; 4] = [
    ["mlp.gate", "ffn_gate_inp"],
    ["mlp.experts.gate_proj", "ffn_gate_exps"],
    ["mlp.experts.up_proj", "ffn_up_exps"],
    ["mlp.experts.down_proj", "ffn_down_exps"],
];
