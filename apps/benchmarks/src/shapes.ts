/** Named sizes of a run, so that figures of different days and machines are of the same thing. */
export interface BenchShape {
  /** Catalogue name, path, or `owner/repo:file`. */
  readonly model: string;
  /** Tokens before the first measured one. */
  readonly context: number;
  /** Sequences of the suite `batch`; other suites take no notice. */
  readonly sequences?: number;
}

export const shapes = {
  'smollm2-512': { model: 'smollm2-135m', context: 512 },
  'smollm2-2k': { model: 'smollm2-135m', context: 2_000 },
  'smollm2-8k': { model: 'smollm2-135m', context: 8_000 },
  'smollm2-8k-x8': { model: 'smollm2-135m', context: 8_000, sequences: 8 },
  'qwen-512': { model: 'qwen2.5-coder-0.5b', context: 512 },
  'qwen-16k': { model: 'qwen2.5-coder-0.5b', context: 16_000 },
  'qwen-16k-x8': { model: 'qwen2.5-coder-0.5b', context: 16_000, sequences: 8 },
  'qwen-32k': { model: 'qwen2.5-coder-0.5b', context: 32_000 },
} as const satisfies Record<string, BenchShape>;

export type ShapeName = keyof typeof shapes;
