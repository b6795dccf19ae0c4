//! One linear layer's weights on the device, in the form that its kernels read.

use ctkvr_kernels::STRIP_ROWS;
use ctkvr_model::{Matrix, PackedShape, Q6kBlock};
use half::f16;

use crate::launch::linear::{Linear, Strips};
use crate::launch::linear_f16::LinearF16;
use crate::launch::outputs::Outputs;
use crate::strip_format::StripFormat;
use crate::{Device, DeviceBuffer, Result, Span};

/// A matrix `[n, k]`, and its bias.
pub struct DeviceMatrix {
    form: Form,
    bias: Option<DeviceBuffer<f32>>,
    pub k: usize,
    pub n: usize,
}

enum Form {
    Strips {
        bytes: DeviceBuffer<u8>,
        format: StripFormat,
    },
    /// Of types that have no strips.
    Rows(DeviceBuffer<f16>),
}

/// What a matrix is packed in; `None` for a type that has no strips, or none that kernels know.
fn strips_of(matrix: &Matrix) -> Option<StripFormat> {
    if Q6kBlock::stores(matrix.info) {
        return Some(StripFormat::Q6K);
    }
    PackedShape::of(matrix.info).map(|shape| shape.format.into()).filter(|format| Strips::has_kernels(*format))
}

/// Rows of activations in every form that some matrix takes.
pub struct Activations {
    rounded: DeviceBuffer<u8>,
    f16: DeviceBuffer<f16>,
}

impl Activations {
    /// Room for `rows` rows of `width` values.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn new(device: &Device, rows: usize, width: usize) -> Result<Self> {
        let rounded = DeviceBuffer::new(device, rows * ctkvr_kernels::activation_bytes(width))?;
        Ok(Self { rounded, f16: DeviceBuffer::new(device, rows * width)? })
    }

    /// What the kernels before these matrices write of `rows` rows.
    pub fn outputs(&self, takers: &[DeviceMatrix], rows: usize) -> Outputs {
        let k = takers[0].k;
        let mut outputs = Outputs::NONE;
        for taker in takers {
            match taker.form {
                Form::Strips { .. } => outputs.rounded = self.rounded.span().part(0..rows * ctkvr_kernels::activation_bytes(k)),
                Form::Rows(_) => outputs.f16 = self.f16.span().part(0..rows * k),
            }
        }
        outputs
    }
}

/// A matrix of the model's file, and its bias.
pub struct HostMatrix<'a> {
    pub matrix: Matrix<'a>,
    pub bias: Option<Matrix<'a>>,
}

impl DeviceMatrix {
    /// # Errors
    /// `OutOfMemory`.
    pub fn new(device: &Device, of: &HostMatrix) -> Result<Self> {
        Self::stacked(device, std::slice::from_ref(of))
    }

    /// Matrices that take the same rows as one, the first's values first: a launch for all of them. `None` where they cannot be: other types,
    /// a bias on some alone, or strips that would hold rows of two.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn joined(device: &Device, all: &[HostMatrix]) -> Result<Option<Self>> {
        let Some((last, before)) = all.split_last() else { return Ok(None) };
        let alike = |of: &HostMatrix| {
            let (kind, len) = (of.matrix.info.kind, of.matrix.len);
            (kind, len) == (last.matrix.info.kind, last.matrix.len) && of.bias.is_some() == last.bias.is_some()
        };
        let whole_strips = |of: &HostMatrix| strips_of(&of.matrix).is_none() || of.matrix.num_rows.is_multiple_of(STRIP_ROWS);
        if !before.iter().all(|of| alike(of) && whole_strips(of)) {
            return Ok(None);
        }
        Self::stacked(device, all).map(Some)
    }

    /// Of one type and row length.
    fn stacked(device: &Device, all: &[HostMatrix]) -> Result<Self> {
        let form = match strips_of(&all[0].matrix) {
            Some(format) => {
                let mut packed = Vec::new();
                all.iter().for_each(|of| format.pack(&of.matrix, &mut packed));
                Form::Strips { bytes: DeviceBuffer::from_slice(device, &packed)?, format }
            }
            None => {
                let rows = all.iter().flat_map(|of| (0..of.matrix.num_rows).flat_map(|i| of.matrix.row(i)));
                let rows: Vec<f16> = rows.map(f16::from_f32).collect();
                Form::Rows(DeviceBuffer::from_slice(device, &rows)?)
            }
        };
        let bias: Vec<f32> = all.iter().filter_map(|of| of.bias.as_ref()).flat_map(|bias| bias.row(0)).collect();
        let bias = if bias.is_empty() { None } else { Some(DeviceBuffer::from_slice(device, &bias)?) };
        Ok(Self { form, bias, k: all[0].matrix.len, n: all.iter().map(|of| of.matrix.num_rows).sum() })
    }

    /// Multiplies `rows` rows, which [`Activations::outputs`] made room for. Row i goes to `out[i * out_stride..]`.
    ///
    /// # Errors
    /// As launches.
    pub fn multiply(
        &self,
        device: &Device,
        activations: &Outputs,
        out: Span<f32>,
        (rows, out_stride): (usize, usize),
    ) -> Result<()> {
        let (k, n, stream) = (self.k, self.n, device.compute());
        let bias = self.bias.as_ref().map_or(Span::EMPTY, DeviceBuffer::span);
        match &self.form {
            Form::Strips { bytes, format } => {
                let weights = Strips { bytes: bytes.span(), format: *format, k, n };
                Linear { weights, bias, activations: activations.rounded, out, out_stride, rows }.launch(device, stream)
            }
            Form::Rows(weights) => {
                let weights = weights.span();
                LinearF16 { weights, bias, activations: activations.f16, out, out_stride, rows, k, n }.launch(device, stream)
            }
        }
    }
}
