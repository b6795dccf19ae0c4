/** Seeded pseudo-random numbers, so that every test and every golden file can be replayed from one integer. */

export interface Random {
  /** Uniform in [0, 1), 32 bits of it. */
  uniform(): number;
  /** Integer in [min, max], both included. */
  integer(min: number, max: number): number;
  /** Standard normal. */
  normal(): number;
}

/**
 * Returns a generator with its own state: the 32-bit mixing function of splitmix-style hashes over a Weyl sequence. Statistically plain,
 * which is enough for test data; not for anything secret.
 */
export function createRandom(seed: number): Random {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x9e3779b9) >>> 0;
    let x = state;
    x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
    x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
    return ((x ^ (x >>> 15)) >>> 0) / 2 ** 32;
  };
  return {
    uniform,
    integer: (min, max) => min + Math.floor(uniform() * (max - min + 1)),
    // Box-Muller; 1 - uniform() is never 0.
    normal: () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()),
  };
}
