/** IEEE half precision, in which the means of a tail are kept: Node 20 has no Float16Array. */

const asFloat = new Float32Array(1);
const asBits = new Uint32Array(asFloat.buffer);
/** The largest finite one, 65504. */
const largestBits = 0x7bff;

/** Returns the bits of the f16 nearest to `x`, a finite f32; ties to even. Beyond 65504 that, so that it stays finite. */
export function encodeFloat16(x: number): number {
  asFloat[0] = x;
  const bits = asBits[0]!;
  const sign = (bits >>> 16) & 0x8000;
  // Powers of two below 2^-14 have no exponent of their own: all of them count in steps of 2^-24.
  const exponent = Math.max(((bits >>> 23) & 0xff) - 127, -14);
  const steps = roundHalfEven(Math.abs(asFloat[0]) * 2 ** (10 - exponent));
  // 1024 steps make a power of two, whether or not rounding reached the next one.
  const magnitude = (exponent + 14) * 1024 + steps;
  return sign | Math.min(magnitude, largestBits);
}

/** Returns the number that the bits of an f16 stand for. */
export function decodeFloat16(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >>> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0x1f) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}

/** Returns the f16 nearest to `x`. */
export function roundToFloat16(x: number): number {
  return decodeFloat16(encodeFloat16(x));
}

function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}
