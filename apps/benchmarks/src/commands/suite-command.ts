/** A suite that runs a model, as a command: the options that all of them share, and what their measurements start from. */
import { loadBinding, type NativeModelInfo } from '@ctkvr/native';
import { Command } from 'commander';
import { resolveBenchModel } from '../evaluation-models.js';
import { positiveInteger } from '../parse-options.js';
import { modelRunHead } from '../run-head.js';
import { type BenchShape, shapes } from '../shapes.js';
import type { SuiteName, SuiteResult } from '../suites/result.js';
import type { ResultHead } from '../suites/result-head.js';
import { type OutputFlags, outputResult, withOutputOptions } from './output-options.js';

export interface SuiteFlags extends OutputFlags {
  readonly model: string;
  readonly context: number;
  readonly shape?: string;
  readonly rounds: number;
}

/** What a suite's measurement starts from. */
export interface SuiteSetup<Flags> {
  readonly flags: Flags;
  readonly head: ResultHead;
  /** Absolute path of the GGUF file. */
  readonly modelPath: string;
  readonly model: NativeModelInfo;
  readonly onProgress: (line: string) => void;
}

export interface SuiteDescription<Flags> {
  readonly name: SuiteName;
  readonly description: string;
  /** Tokens of the prompt unless asked otherwise. */
  readonly defaultContext: number;
  readonly measure: (setup: SuiteSetup<Flags>) => Promise<SuiteResult>;
}

/** Returns the command without the options that are the suite's own. */
export function suiteCommand<Flags extends SuiteFlags>(suite: SuiteDescription<Flags>): Command {
  const command = new Command(suite.name)
    .description(suite.description)
    .option('--model <model>', 'path, catalogue name, or owner/repo:file', 'smollm2-135m')
    .option('--context <tokens>', 'tokens of the prompt', positiveInteger, suite.defaultContext)
    .option('--shape <name>', `model and context by name: ${Object.keys(shapes).join(', ')}`)
    .option('--rounds <count>', 'turns of each contender', positiveInteger, 5)
    .action(async (given: Flags) => {
      const result = await suite.measure(await prepare(withShape(given, command)));
      await outputResult(result, given);
    });
  return withOutputOptions(command);
}

async function prepare<Flags extends SuiteFlags>(flags: Flags): Promise<SuiteSetup<Flags>> {
  const modelPath = await resolveBenchModel(flags.model);
  return {
    flags,
    head: await modelRunHead(modelPath),
    modelPath,
    model: await loadBinding().inspectModel(modelPath),
    onProgress: (line) => process.stderr.write(`${line}\n`),
  };
}

/** A named shape gives the options that it has a value for; naming one of them as well is a contradiction. */
function withShape<Flags extends SuiteFlags>(flags: Flags, command: Command): Flags {
  if (flags.shape === undefined) return flags;
  const shape = (shapes as Partial<Record<string, BenchShape>>)[flags.shape];
  if (shape === undefined) command.error(`no shape is called ${flags.shape}: one of ${Object.keys(shapes).join(', ')}`);
  for (const option of Object.keys(shape)) {
    if (command.getOptionValueSource(option) === 'cli') command.error(`--shape and --${option} exclude each other`);
  }
  return { ...flags, ...shape };
}
