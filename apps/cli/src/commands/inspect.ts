/** `ctkvr inspect`: what a GGUF file holds, and what running it would take. Reads the header only. */
import { fitsKvFormat } from '@ctkvr/core';
import { estimateMemory, resolveModelFile, selectorFor } from '@ctkvr/model-runner';
import { loadBinding, type NativeModelInfo } from '@ctkvr/native';
import { Command } from 'commander';
import { type CommandContext, type RunAction, SilentExit } from '../command-context.js';
import { print, printJson } from '../console-io.js';
import { exitCodes } from '../exit-codes.js';
import { formatBytes, formatCount, formatCounted, formatTable } from '../format.js';
import { integer } from '../parse-numbers.js';
import { ProgressLine } from '../progress-line.js';

interface InspectFlags {
  readonly context?: number;
  readonly json: boolean;
}

export function inspectCommand(run: RunAction): Command {
  return new Command('inspect')
    .description('Show architecture, sizes, quantisation and memory needs of a GGUF file, and whether it is supported')
    .argument('<gguf>', 'path, catalogue name, or owner/repo:file')
    .option(
      '--context <tokens>',
      'tokens to compute the memory for (default: what the model was trained for)',
      integer(1),
    )
    .option('--json', 'print everything as JSON', false)
    .action((gguf: string, flags: InspectFlags) => run((context) => inspect(gguf, flags, context)));
}

export async function inspect(gguf: string, flags: InspectFlags, { io, signal }: CommandContext): Promise<void> {
  const progress = new ProgressLine(io);
  const path = await resolveModelFile(gguf, { signal, onProgress: progress.onDownload }).finally(() =>
    progress.clear(),
  );
  const binding = loadBinding();
  const info = await binding.inspectModel(path);
  const context = flags.context ?? info.trainedContext;
  // Of a file that cannot be run, the sizes of its attention may be wrong.
  const memory =
    info.unsupportedReason !== null ? null : memoryOf(info, context, binding.buildInfo().availableMemoryBytes);
  if (flags.json) {
    const { controlTokens, chatTemplate, ...rest } = info;
    await printJson(io, {
      ...rest,
      supported: info.unsupportedReason === null,
      hasChatTemplate: chatTemplate !== null,
      numControlTokens: controlTokens.length,
      memory,
    });
  } else {
    const rows = memory ? [...attentionRows(info), ...memoryRows(memory, info)] : [];
    await print(io, formatTable([...modelRows(info), ...rows]));
  }
  // The reason has been printed.
  if (info.unsupportedReason !== null) throw new SilentExit(exitCodes.input);
}

interface MemoryNeed {
  readonly context: number;
  readonly weightsBytes: number;
  readonly kvBytes: number;
  /** With `--kv-format q8`; null where the model's heads cannot be stored so. */
  readonly kvBytesQ8: number | null;
  /** At most, with the default settings. */
  readonly indexBytes: number;
  readonly totalBytes: number;
  readonly availableBytes: number;
}

function memoryOf(info: NativeModelInfo, context: number, availableBytes: number): MemoryNeed {
  const input = { info, contextLength: context, selector: selectorFor(info) };
  const { kvBytes, indexBytes } = estimateMemory(input);
  return {
    context,
    weightsBytes: info.sizeBytes,
    kvBytes,
    kvBytesQ8: fitsKvFormat(info.headDim, 'q8') ? estimateMemory({ ...input, kvFormat: 'q8' }).kvBytes : null,
    indexBytes,
    totalBytes: info.sizeBytes + kvBytes + indexBytes,
    availableBytes,
  };
}

function modelRows(info: NativeModelInfo): string[][] {
  return [
    ['file', info.path],
    ['name', info.name ?? '(none given)'],
    ['architecture', info.architecture],
    ['supported', info.unsupportedReason === null ? 'yes' : `no: ${info.unsupportedReason}`],
    ['size', `${formatBytes(info.sizeBytes)}, ${formatCount(info.numParameters)} parameters`],
    ['quantisation', info.quantisation],
    ['vocabulary', formatCount(info.vocabSize)],
    ['chat template', info.chatTemplate === null ? 'none' : 'yes'],
  ];
}

function attentionRows(info: NativeModelInfo): string[][] {
  return [
    ['layers', formatCount(info.numLayers)],
    ['heads', `${info.numQueryHeads} query, ${info.numKvHeads} KV, ${info.headDim} numbers each`],
    ...localRows(info),
    ['trained context', formatCounted(info.trainedContext, 'token')],
    ['RoPE', `base ${info.ropeFreqBase}, scaling ${info.ropeScaling}`],
    ['KV per token', formatBytes(info.kvBytesPerToken)],
  ];
}

/** Of a model with sliding windows: its other layers are those that retrieval serves. */
function localRows({ localLayers, numLayers }: NativeModelInfo): string[][] {
  if (!localLayers) return [];
  const { window, period } = localLayers;
  const numOthers = period === 0 ? 0 : Math.floor(numLayers / period);
  const seen = formatCounted(window, 'token');
  return [
    ['local layers', `${numLayers - numOthers} see the last ${seen} and have no index; ${numOthers} see everything`],
  ];
}

function memoryRows(memory: MemoryNeed, info: NativeModelInfo): string[][] {
  const fits = memory.totalBytes <= memory.availableBytes;
  const inQ8 = memory.kvBytesQ8 === null ? '' : ` (with --kv-format q8: ${formatBytes(memory.kvBytesQ8)})`;
  const beyond = memory.context > info.trainedContext ? ' (beyond what the model was trained for)' : '';
  return [
    [`context of ${formatCount(memory.context)}`, `${formatBytes(memory.totalBytes)}${beyond}`],
    ['  weights', formatBytes(memory.weightsBytes)],
    ['  keys and values', `${formatBytes(memory.kvBytes)}${inQ8}`],
    ['  index, at most', formatBytes(memory.indexBytes)],
    ['free here', `${formatBytes(memory.availableBytes)}: ${fits ? 'enough' : 'not enough'}`],
  ];
}
