/** The model of a plan: a built-in shape, sizes on the command line, or a GGUF file. */
import { existsSync } from 'node:fs';
import { CtkvrError, checkOptions, nearestName, type OptionChecks, takes } from '@ctkvr/core';
import { loadBinding, type NativeModelInfo } from '@ctkvr/native';
import { type ModelShape, modelShapes } from '@ctkvr/scheduler';

/** Names as a user types them. */
interface CustomSizes {
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly params: number;
}

const sizeChecks: OptionChecks<CustomSizes> = {
  layers: takes.integer(1, 10_000),
  heads: takes.integer(1, 10_000),
  kvHeads: takes.integer(1, 10_000),
  headDim: takes.integer(1, 10_000),
  params: takes.number(1, 1e15),
};
const names = Object.keys(modelShapes);

/**
 * Returns the sizes that `text` names: `llama-3-8b`, `layers=32,heads=32,kvHeads=8,headDim=128,params=7.5e9`, or the path of a GGUF file.
 * @throws {CtkvrError} CTKVR_UNKNOWN_MODEL, CTKVR_INVALID_OPTION for sizes; what a GGUF file can be refused with.
 */
export async function modelOf(text: string): Promise<ModelShape> {
  const builtIn = Object.values(modelShapes).find(({ name }) => name === text.toLowerCase());
  if (builtIn !== undefined) return builtIn;
  if (text.includes('=')) return customShape(text);
  if (existsSync(text) || text.endsWith('.gguf')) return shapeOfFile(await loadBinding().inspectModel(text));
  const nearest = nearestName(text, names);
  const advice = nearest === null ? 'or the path of a GGUF file' : `did you mean ${nearest}?`;
  const expected = `one of ${names.join(', ')}, sizes such as layers=32,heads=32,kvHeads=8,headDim=128,params=7.5e9`;
  throw new CtkvrError('CTKVR_UNKNOWN_MODEL', `--model must be ${expected}, got ${text}; ${advice}`, {
    fields: { option: 'model', expected, actual: text, nearest },
  });
}

function customShape(text: string): ModelShape {
  const pairs = text.split(',').map((pair) => {
    const [name = '', value = ''] = pair.split('=').map((word) => word.trim());
    // What is no number stays a text, so that the message shows it.
    return [name, value === '' || Number.isNaN(Number(value)) ? value : Number(value)] as const;
  });
  const sizes = Object.fromEntries(pairs) as unknown as CustomSizes;
  checkOptions('--model', sizes, sizeChecks);
  const { layers, heads, kvHeads, headDim, params } = sizes;
  return {
    ...{ name: 'custom', numLayers: layers, numQueryHeads: heads, numKvHeads: kvHeads, headDim },
    numParameters: params,
  };
}

/** The whole file counts as read, an embedding table of its own too: an upper bound. */
function shapeOfFile(info: NativeModelInfo): ModelShape {
  if (info.unsupportedReason !== null) {
    throw new CtkvrError('CTKVR_UNSUPPORTED_MODEL', `${info.path} cannot be run: ${info.unsupportedReason}`, {
      fields: { path: info.path, reason: info.unsupportedReason },
    });
  }
  const { numLayers, numQueryHeads, numKvHeads, headDim, numParameters, sizeBytes } = info;
  const name = info.name ?? info.path;
  return { name, numLayers, numQueryHeads, numKvHeads, headDim, numParameters, weightsBytes: sizeBytes };
}
