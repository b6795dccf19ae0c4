/** IEEE half precision: the native side stores keys and values as f16, so data meant for both is rounded to it first. */

const asFloat = new Float32Array(1);
const asBits = new Uint32Array(asFloat.buffer);

/** Returns the bit pattern of the f16 nearest to `value` (ties to even; beyond 65504 infinity). */
export function f16Bits(value: number): number {
  asFloat[0] = value;
  const bits = asBits[0]!;
  const sign = (bits >>> 16) & 0x8000;
  const exponent = (bits >>> 23) & 0xff;
  const mantissa = bits & 0x7fffff;
  if (exponent === 0xff) return sign | 0x7c00 | (mantissa === 0 ? 0 : 0x200);
  // Unit of the last kept bit: 2^(e - 25) for normal halves, 2^-24 for subnormal ones.
  const unbiased = Math.max(exponent - 127, -14);
  const magnitude = Math.abs(asFloat[0]!);
  const quantum = 2 ** (unbiased - 10);
  const steps = roundHalfEven(magnitude / quantum);
  // Carry from the mantissa into the exponent is what plain addition of the fields does.
  const half = unbiased === -14 ? steps : ((unbiased + 15) << 10) + (steps - 1024);
  return sign | Math.min(half, 0x7c00);
}

/** Returns the number a bit pattern stands for. */
export function f16Value(bits: number): number {
  const exponent = (bits >>> 10) & 0x1f;
  const mantissa = bits & 0x3ff;
  const sign = bits & 0x8000 ? -1 : 1;
  if (exponent === 0x1f) return mantissa === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (exponent === 0 ? mantissa * 2 ** -24 : (1024 + mantissa) * 2 ** (exponent - 25));
}

/** Rounds every number to f16, in place, and returns the same array. */
export function roundToF16(values: Float32Array): Float32Array {
  for (let i = 0; i < values.length; i++) values[i] = f16Value(f16Bits(values[i]!));
  return values;
}

function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  if (rest !== 0.5) return rest > 0.5 ? floor + 1 : floor;
  return floor % 2 === 0 ? floor : floor + 1;
}
