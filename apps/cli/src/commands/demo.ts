/** `ctkvr demo`: shows on a real model and a real book what retrieval is for. */
import { randomInt } from 'node:crypto';
import { DEFAULT_MODEL, readMobyDick } from '@ctkvr/model-runner';
import { Command } from 'commander';
import { type CommandContext, type RunAction, SilentExit } from '../command-context.js';
import { note, print, printJson } from '../console-io.js';
import { askThrice, type DemoAnswer, type DemoTask, makeTask, readTask } from '../demo/run-demo.js';
import { exitCodes } from '../exit-codes.js';
import { formatCount, formatCounted, formatDuration, formatTable } from '../format.js';
import { lighthouseFact } from '../needles/lighthouse.js';
import { openModel } from '../open-model.js';
import { integer } from '../parse-numbers.js';
import { addDeviceOptions, type DeviceOptions } from '../parse-options.js';
import { ProgressLine, prefillState } from '../progress-line.js';

/** Numbers hidden at most, until dense attention finds one. */
const MAX_DRAWS = 3;

interface DemoFlags extends DeviceOptions {
  readonly threads: number;
  readonly seed?: number;
  readonly json: boolean;
}

export function demoCommand(run: RunAction): Command {
  const command = new Command('demo').description(
    'Hide a fact in a long text and ask for it with dense attention, with CTkvr, and with the recent window only',
  );
  return addDeviceOptions(command)
    .option('--threads <count>', 'threads; 0 = all this process may use', integer(0, 1024), 0)
    .option(
      '--seed <number>',
      'number and depth are drawn from it (default: a new one each time, printed with --json)',
      integer(0, 0xffff_ffff),
    )
    .option('--json', 'print what was measured as JSON', false)
    .action((flags: DemoFlags) => run((context) => demo(flags, context)));
}

async function demo(flags: DemoFlags, { io, signal }: CommandContext): Promise<void> {
  const say = (text: string) => (flags.json ? Promise.resolve() : print(io, text));
  const progress = new ProgressLine(io, { stages: true });
  const book = await readMobyDick({ signal, onProgress: progress.onDownload }).finally(() => progress.clear());
  await using model = await openModel({ ...flags, model: DEFAULT_MODEL, mapWeights: false }, { progress, signal });
  const seed = flags.seed ?? randomInt(2 ** 32);
  let shown = await show(0);
  // A model of this size misses some numbers with dense attention too; those show nothing about retrieval.
  for (let draw = 1; draw < MAX_DRAWS && !shown.answers[0]?.found; draw++) {
    await say('Even dense attention misses this number, so there is nothing for retrieval to find. Another one:\n\n');
    shown = await show(draw);
  }
  const { task, prefillMs, answers } = shown;
  if (flags.json) {
    await printJson(io, {
      model: DEFAULT_MODEL,
      tokens: task.tokens.length,
      seed,
      factAt: task.factAt,
      number: task.number,
      prefillMs,
      answers,
    });
  } else {
    await say(
      `${formatTable(rows(answers), [1, 2, 3, 4, 5])}\nKL and same next token: against dense attention, over the same tokens.\n\n`,
    );
    await say('Try next:\n  npm run -s ctkvr -- ask your.txt "Your question?"\n  npm run -s ctkvr -- serve\n');
  }
  const failure = failedOutcome(answers);
  if (failure === null) return;
  await note(io, failure);
  throw new SilentExit(exitCodes.failure);

  /** Hides the number of one draw and asks for it; when dense attention does not find it, the others are not asked. */
  async function show(draw: number): Promise<{ task: DemoTask; prefillMs: number; answers: DemoAnswer[] }> {
    progress.show({ label: 'hiding a fact in the text', fraction: null, detail: '' });
    const task = await makeTask({ model, book, seed, draw }).finally(() => progress.clear());
    const numTokens = task.tokens.length;
    await say(
      `${DEFAULT_MODEL} reads the beginning of Moby Dick, ${formatCounted(numTokens, 'token')}, on ${formatCounted(model.numThreads, 'thread')}.\n` +
        `Hidden at token ${formatCount(task.factAt)} (${Math.round((task.factAt / numTokens) * 100)} % of the way): "${lighthouseFact(task.number)}"\n\n`,
    );
    const { session: base, prefillMs } = await readTask(model, task, {
      signal,
      onProgress: (state) => progress.show(prefillState(state)),
    }).finally(() => progress.clear());
    await using _base = base;
    await say(`Read once, in ${formatDuration(prefillMs)}. The same question, three ways to look back:\n\n`);
    const answers: DemoAnswer[] = [];
    const onStage = (label: string) => progress.show({ label, fraction: null, detail: '' });
    try {
      for await (const answer of askThrice({ model, task, base, prefillMs, onStage, signal })) {
        progress.clear();
        answers.push(answer);
        await say(
          `  ${answer.name} (${answer.what}): ${answer.found ? 'found it' : 'did not find it'}\n    ${answer.text.replace(/\s+/g, ' ')}\n\n`,
        );
        if (!answers[0]?.found) break;
      }
    } finally {
      progress.clear();
    }
    return { task, prefillMs, answers };
  }
}

function rows(answers: readonly DemoAnswer[]): string[][] {
  const head = ['', 'first token', 'ms/token', 'keys read per head', 'mean KL', 'same next token'];
  return [
    head,
    ...answers.map(({ name, statistics: s, measure }) => [
      name,
      s.timeToFirstTokenMs === null ? '-' : formatDuration(s.timeToFirstTokenMs),
      measure.msPerToken.toFixed(1),
      `${formatCount(s.keysReadPerHead ?? 0)} of ${formatCount(s.keysPerHead ?? 0)}`,
      measure.meanKl.toPrecision(2),
      `${Math.round(measure.top1Agreement * 100)} %`,
    ]),
  ];
}

/** Returns why the demo did not show what it is for, or null. */
function failedOutcome(answers: readonly DemoAnswer[]): string | null {
  const [dense, ctkvr, windowOnly] = answers;
  if (!dense?.found)
    return `The model found none of ${MAX_DRAWS} numbers even with dense attention: run the demo again for others.`;
  if (!ctkvr?.found) return 'CTkvr missed the number that dense attention found.';
  if (windowOnly?.found) return 'Window-only attention found the number, which it cannot have read.';
  return null;
}
