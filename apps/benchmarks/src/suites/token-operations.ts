/** How many operations a model's tokens take: what is compared with the arithmetic peak. */
import type { NativeModelInfo } from '@ctkvr/native';

export type OperationSizes = Pick<
  NativeModelInfo,
  'numParameters' | 'vocabSize' | 'embeddingLength' | 'numLayers' | 'numQueryHeads' | 'headDim'
>;

/**
 * Returns the f32 additions and multiplications of a prefill of `numTokens` tokens: two for each weight of the layers and token, the output
 * for the last token only, and causal attention over all keys. The embedding is taken for the output's matrix too: a model with two of
 * them is counted with one too many in its layers, some percent.
 */
export function prefillOperations(sizes: OperationSizes, numTokens: number): number {
  const { numLayers, numQueryHeads, headDim } = sizes;
  const pairs = (numTokens * (numTokens + 1)) / 2;
  const attention = 4 * numLayers * numQueryHeads * headDim * pairs;
  return 2 * layerWeights(sizes) * numTokens + 2 * outputWeights(sizes) + attention;
}

/** Returns those of one decoded token's linear layers; attention is left out: what it reads depends on the selector. */
export function decodeOperations(sizes: OperationSizes): number {
  return 2 * (layerWeights(sizes) + outputWeights(sizes));
}

function layerWeights(sizes: OperationSizes): number {
  return sizes.numParameters - outputWeights(sizes);
}

function outputWeights({ vocabSize, embeddingLength }: OperationSizes): number {
  return vocabSize * embeddingLength;
}
