//! One linear layer's weights on the device, in the form that its kernels read.

use ctkvr_model::{Matrix, PackedShape};
use half::f16;

use crate::launch::linear::{Linear, Strips};
use crate::launch::linear_f16::LinearF16;
use crate::launch::outputs::Outputs;
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
        shape: PackedShape,
    },
    /// Of types that have no strips.
    Rows(DeviceBuffer<f16>),
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
    pub fn outputs(&self, takers: &[&DeviceMatrix], rows: usize) -> Outputs {
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

impl DeviceMatrix {
    /// # Errors
    /// `OutOfMemory`.
    pub fn new(device: &Device, matrix: &Matrix, bias: Option<&Matrix>) -> Result<Self> {
        let form = match PackedShape::of(matrix.info).filter(|shape| Strips::has_kernels(shape.format)) {
            Some(shape) => {
                let mut packed = vec![0; shape.num_strips() * shape.strip_bytes()];
                shape.pack(matrix.info.kind, matrix.bytes, &mut packed);
                Form::Strips { bytes: DeviceBuffer::from_slice(device, &packed)?, shape }
            }
            None => {
                let rows: Vec<f16> = (0..matrix.num_rows).flat_map(|i| matrix.row(i)).map(f16::from_f32).collect();
                Form::Rows(DeviceBuffer::from_slice(device, &rows)?)
            }
        };
        let bias = bias.map(|bias| DeviceBuffer::from_slice(device, &bias.row(0))).transpose()?;
        Ok(Self { form, bias, k: matrix.len, n: matrix.num_rows })
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
            Form::Strips { bytes, shape } => {
                let weights = Strips { bytes: bytes.span(), format: shape.format, k, n };
                Linear { weights, bias, activations: activations.rounded, out, out_stride, rows }.launch(device, stream)
            }
            Form::Rows(weights) => {
                let weights = weights.span();
                LinearF16 { weights, bias, activations: activations.f16, out, out_stride, rows, k, n }.launch(device, stream)
            }
        }
    }
}
