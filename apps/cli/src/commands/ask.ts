/** `ctkvr ask`: reads documents, answers one question, says what that cost. */
import { checkQuestion, documentTurn, groupSizeOf } from '@ctkvr/model-runner';
import { Command } from 'commander';
import { AnswerMeter, statisticsLine } from '../answer-statistics.js';
import type { CommandContext, RunAction } from '../command-context.js';
import { note, print, printJson } from '../console-io.js';
import { DocumentChat } from '../document-chat.js';
import { formatCounted } from '../format.js';
import { openModel } from '../open-model.js';
import {
  addModelOptions,
  addSamplingOptions,
  addSelectorOptions,
  type ModelOptions,
  type SamplingFlags,
  type SelectorFlags,
  samplingOf,
} from '../parse-options.js';
import { ProgressLine, prefillState } from '../progress-line.js';
import { readDocuments } from '../read-document.js';
import { readingOptions, readOnce } from '../sessions/read-once.js';
import { addStoreOptions, type StoreFlags } from '../sessions/session-store.js';

export interface AskFlags extends ModelOptions, SelectorFlags, SamplingFlags, StoreFlags {
  readonly questionFirst: boolean;
  readonly json: boolean;
}

export function askCommand(run: RunAction): Command {
  const command = new Command('ask')
    .description(
      'Ask a question about one or more text files. The answer goes to stdout, progress and statistics to stderr.',
    )
    .usage('[options] <file…|-> <question>')
    .argument('<files-and-question...>', 'text files in UTF-8, or - for standard input; the question comes last');
  addModelOptions(command);
  addSelectorOptions(command);
  addSamplingOptions(command);
  addStoreOptions(command);
  return command
    .option('--question-first', 'put the question before the text as well as after it', false)
    .option('--json', 'print one JSON object with answer and statistics instead of a stream of text', false)
    .addHelpText(
      'after',
      '\nExamples:\n  ctkvr ask report.txt "What does it recommend?"\n  git diff | ctkvr ask - "What could break?"',
    )
    .action(async (words: string[], flags: AskFlags) => {
      if (words.length < 2)
        command.error('error: give at least one file (or -) and a question', { exitCode: 2, code: 'ctkvr.usage' });
      await run((context) => ask({ files: words.slice(0, -1), question: words.at(-1)! }, flags, context));
    });
}

export async function ask(
  what: { readonly files: readonly string[]; readonly question: string },
  flags: AskFlags,
  { io, signal }: CommandContext,
): Promise<void> {
  const { question } = what;
  // Before the model: a wrong file name or an empty question must not cost a download.
  checkQuestion(question);
  const document = await readDocuments(what.files, { stdin: io.stdin, signal });
  const progress = new ProgressLine(io);
  await using model = await openModel(flags, { progress, signal });
  const meter = new AnswerMeter(groupSizeOf(model.info));
  const { files } = what;
  const reading = { model, files, text: document, progress, quiet: flags.json, io, signal };
  // A question in front of the text is part of what is read.
  const { session, restoredTokens } = flags.questionFirst
    ? { session: model.createSession(readingOptions(model, flags)), restoredTokens: 0 }
    : await readOnce(flags, reading);
  await using _ = session;
  const conversation = new DocumentChat({ model, session, document: flags.questionFirst ? null : document });
  const asked = flags.questionFirst ? documentTurn({ document, question, questionFirst: true }) : question;
  try {
    await conversation.ask(asked, {
      signal,
      onProgress: (state) => progress.show(prefillState(state)),
    });
  } finally {
    progress.clear();
  }
  const promptTokens = session.length;
  let answer = '';
  for await (const event of conversation.answer({ maxTokens: flags.maxTokens, sampling: samplingOf(flags), signal })) {
    meter.token(event.statistics.counters);
    answer += event.text;
    if (!flags.json && event.text) await print(io, event.text);
  }
  const finish = session.lastFinish;
  const statistics = meter.statistics(promptTokens);
  if (flags.json) {
    await printJson(io, {
      model: flags.model,
      question,
      answer,
      finishReason: finish?.reason ?? null,
      seed: finish?.seed ?? null,
      restoredTokens,
      ...statistics,
    });
    return;
  }
  await print(io, answer.endsWith('\n') ? '' : '\n');
  await note(io, statisticsLine(statistics));
  if (finish?.reason === 'length')
    await note(io, `The answer was cut at ${formatCounted(flags.maxTokens, 'token')}: --max-tokens allows more.`);
}
