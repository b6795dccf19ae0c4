//! Rotary embedding on plain arrays.

use std::sync::Arc;

use ctkvr_core::{RopePairing, RopeScaling, RotaryEmbedding};
use napi::bindgen_prelude::{AsyncTask, Float32Array, Float64Array, Uint32Array};
use napi::{Env, Task};
use napi_derive::napi;

use crate::error::{caught, core_error, invalid_option};

/// `NativeRotaryEmbedding` of packages/native/src/binding.ts.
#[napi(js_name = "RotaryEmbedding")]
pub struct NativeRotaryEmbedding {
    rope: Arc<RotaryEmbedding>,
}

#[napi]
impl NativeRotaryEmbedding {
    /// Works out the frequencies.
    #[napi(catch_unwind)]
    pub fn create(options: JsRopeOptions) -> napi::Result<NativeRotaryEmbedding> {
        let pairing = match options.pairing.as_str() {
            "half" => RopePairing::Half,
            "adjacent" => RopePairing::Adjacent,
            other => return Err(invalid_option("pairing", "'half' or 'adjacent'", other)),
        };
        let scaling = options.scaling.try_into()?;
        let (head_dim, rotary_dim) = (options.head_dim as usize, options.rotary_dim as usize);
        let rope = RotaryEmbedding::new(head_dim, rotary_dim, pairing, options.freq_base, &scaling).map_err(core_error)?;
        Ok(NativeRotaryEmbedding { rope: Arc::new(rope) })
    }

    /// Radians per position.
    #[napi(getter, catch_unwind)]
    pub fn frequencies(&self) -> Float64Array {
        Float64Array::new(self.rope.frequencies().to_vec())
    }

    /// What rotated values are multiplied by.
    #[napi(getter, catch_unwind)]
    pub fn magnitude(&self) -> f64 {
        self.rope.magnitude()
    }

    /// Rotates in place, at once.
    #[napi(catch_unwind)]
    pub fn rotate(&self, input: JsRotation) -> napi::Result<()> {
        Rotate { rope: Arc::clone(&self.rope), input }.run()
    }

    /// Rotates in place on a worker thread. The vectors belong to it until the promise settles.
    #[napi(catch_unwind)]
    pub fn rotate_async(&self, input: JsRotation) -> AsyncTask<Rotate> {
        AsyncTask::new(Rotate { rope: Arc::clone(&self.rope), input })
    }
}

/// Input of `create`.
#[napi(object, object_to_js = false)]
pub struct JsRopeOptions {
    pub head_dim: u32,
    pub pairing: String,
    pub rotary_dim: u32,
    pub freq_base: f64,
    pub scaling: JsRopeScaling,
}

/// A scaling of any type, with the numbers its type needs.
#[napi(object, object_to_js = false)]
pub struct JsRopeScaling {
    #[napi(js_name = "type")]
    pub kind: String,
    pub factor: Option<f64>,
    pub original_context: Option<f64>,
    pub num_tokens: Option<f64>,
    pub low_freq_factor: Option<f64>,
    pub high_freq_factor: Option<f64>,
    pub beta_fast: Option<f64>,
    pub beta_slow: Option<f64>,
    pub attention_factor: Option<f64>,
    pub truncate: Option<bool>,
}

impl TryFrom<JsRopeScaling> for RopeScaling {
    type Error = napi::Error;

    fn try_from(js: JsRopeScaling) -> napi::Result<Self> {
        let given = |name: &str, value: Option<f64>| value.ok_or_else(|| invalid_option(name, "a number", "nothing"));
        let factor = || given("scaling.factor", js.factor);
        let original_context = || given("scaling.originalContext", js.original_context);
        Ok(match js.kind.as_str() {
            "none" => Self::None,
            "linear" => Self::Linear { factor: factor()? },
            "ntk" => Self::Ntk { factor: factor()? },
            "dynamicNtk" => Self::DynamicNtk {
                factor: factor()?,
                original_context: original_context()?,
                num_tokens: given("scaling.numTokens", js.num_tokens)?,
            },
            "llama3" => Self::Llama3 {
                factor: factor()?,
                low_freq_factor: given("scaling.lowFreqFactor", js.low_freq_factor)?,
                high_freq_factor: given("scaling.highFreqFactor", js.high_freq_factor)?,
                original_context: original_context()?,
            },
            "yarn" => Self::Yarn {
                factor: factor()?,
                original_context: original_context()?,
                beta_fast: given("scaling.betaFast", js.beta_fast)?,
                beta_slow: given("scaling.betaSlow", js.beta_slow)?,
                attention_factor: given("scaling.attentionFactor", js.attention_factor)?,
                truncate: js.truncate.ok_or_else(|| invalid_option("scaling.truncate", "a flag", "nothing"))?,
            },
            other => return Err(invalid_option("scaling.type", "none, linear, ntk, dynamicNtk, llama3 or yarn", other)),
        })
    }
}

/// Input of `rotate`.
#[napi(object, object_to_js = false)]
pub struct JsRotation {
    pub vectors: Float32Array,
    pub positions: Option<Uint32Array>,
    pub num_heads: u32,
    pub inverse: bool,
}

/// A rotation on a worker thread.
pub struct Rotate {
    rope: Arc<RotaryEmbedding>,
    input: JsRotation,
}

impl Rotate {
    fn run(&mut self) -> napi::Result<()> {
        let JsRotation { vectors, positions, num_heads, inverse } = &mut self.input;
        // SAFETY: the caller leaves the vectors alone until the promise settles, as the contract of `rotate_async` says, and a call of
        // `rotate` ends before JavaScript goes on.
        let vectors = unsafe { vectors.as_mut() };
        self.rope.rotate(vectors, positions.as_deref(), *num_heads as usize, *inverse).map_err(core_error)
    }
}

impl Task for Rotate {
    type Output = ();
    type JsValue = ();

    fn compute(&mut self) -> napi::Result<()> {
        caught(|| self.run())
    }

    fn resolve(&mut self, _env: Env, (): ()) -> napi::Result<()> {
        Ok(())
    }
}
