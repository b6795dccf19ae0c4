/** `npm run bench -- <suite> …`: the command line of the benchmarks. */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { hashFile } from '@ctkvr/model-runner';
import { Argument, Command } from 'commander';
import { resolveBenchModel } from './evaluation-models.js';
import { type EvaluationText, evaluationTextFile, evaluationTexts } from './evaluation-texts.js';
import { currentCommit, describeMachine } from './machine.js';
import { positiveInteger } from './parse-options.js';
import { formatResult } from './print-result.js';
import { shapes } from './shapes.js';
import { studyCommand } from './study/study-command.js';
import { decodeSuite } from './suites/decode.js';
import { prefillSuite } from './suites/prefill.js';
import { type BenchResult, toRows } from './suites/result.js';

interface SuiteFlags {
  readonly model?: string;
  readonly context?: number;
  readonly shape?: string;
  readonly rounds: number;
  readonly tokens: number;
  readonly denseBelow?: number;
  readonly peer: boolean;
  readonly json: boolean;
}

/** Returns the program, so that it can be run here or as a subcommand of another. */
export function benchCommand(): Command {
  const program = new Command('bench').description('Speed of CTkvr beside node-llama-cpp, with its quality');
  program.addCommand(suiteCommand('decode', 'milliseconds a token after a long prompt'));
  program.addCommand(suiteCommand('prefill', 'time to the first token of a long prompt'));
  program
    .command('pull <model>')
    .description('fetch a model for evaluation and print where it lies')
    .option('--json', 'print { name, path }', false)
    .action(async (name: string, { json }: { json: boolean }) => {
      const file = await resolveBenchModel(name);
      console.log(json ? JSON.stringify({ name, path: file }) : file);
    });
  program.addCommand(studyCommand());
  program
    .command('text')
    .description('fetch a text for evaluation and print where it lies')
    .addArgument(new Argument('<name>', 'which').choices(evaluationTexts))
    .option('--json', 'print { name, path }', false)
    .action(async (name: EvaluationText, { json }: { json: boolean }) => {
      const file = await evaluationTextFile(name);
      console.log(json ? JSON.stringify({ name, path: file }) : file);
    });
  return program;
}

function suiteCommand(suite: BenchResult['suite'], description: string): Command {
  return new Command(suite)
    .description(description)
    .option('--model <model>', 'path, catalogue name, or owner/repo:file', 'smollm2-135m')
    .option('--context <tokens>', 'tokens of the prompt', positiveInteger, 2000)
    .option('--shape <name>', `model and context by name: ${Object.keys(shapes).join(', ')}`)
    .option('--rounds <count>', 'turns of each contender', positiveInteger, 5)
    .option('--tokens <count>', 'decoded tokens a turn', positiveInteger, 24)
    .option(
      '--dense-below <tokens>',
      'contexts shorter than this decode densely (default: the preset)',
      positiveInteger,
    )
    .option('--no-peer', 'leave node-llama-cpp out')
    .option('--json', 'print the result as JSON on stdout', false)
    .action(async (flags: SuiteFlags, command: Command) => {
      const result = await runSuite(suite, withShape(flags, command));
      console.log(flags.json ? JSON.stringify(result, null, 2) : formatResult(result));
    });
}

/** A named shape gives model and context; naming one of them as well is a contradiction. */
function withShape(flags: SuiteFlags, command: Command): Required<Pick<SuiteFlags, 'model' | 'context'>> & SuiteFlags {
  const given = { model: flags.model!, context: flags.context! };
  if (flags.shape === undefined) return { ...flags, ...given };
  const shape = (shapes as Partial<Record<string, { model: string; context: number }>>)[flags.shape];
  if (shape === undefined) command.error(`no shape is called ${flags.shape}: one of ${Object.keys(shapes).join(', ')}`);
  for (const option of ['model', 'context'] as const) {
    if (command.getOptionValueSource(option) === 'cli') command.error(`--shape and --${option} exclude each other`);
  }
  return { ...flags, ...shape };
}

async function runSuite(
  suite: BenchResult['suite'],
  flags: SuiteFlags & { model: string; context: number },
): Promise<BenchResult> {
  const onProgress = (line: string) => process.stderr.write(`${line}\n`);
  const modelPath = await resolveBenchModel(flags.model);
  const [machine, commit, { size }, sha256] = [
    await describeMachine(),
    await currentCommit(),
    await stat(modelPath),
    await hashFile(modelPath, 'sha256'),
  ];
  const options = {
    modelPath,
    modelSizeBytes: size,
    context: flags.context,
    rounds: flags.rounds,
    tokensPerRound: flags.tokens,
    peer: flags.peer,
    denseBelow: flags.denseBelow,
    maxThreads: machine.usableThreads,
    onProgress,
  };
  const { rows, peerTrials } = await (suite === 'decode' ? decodeSuite(options) : prefillSuite(options));
  return {
    suite,
    date: new Date().toISOString(),
    machine,
    commit,
    model: { name: path.basename(modelPath), sizeBytes: size, sha256 },
    context: flags.context,
    rounds: flags.rounds,
    rows: toRows(rows, machine.memory.bandwidthGBps),
    peerTrials,
  };
}
