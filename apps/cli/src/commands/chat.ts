/** `ctkvr chat`: several turns over documents that are read once. */

import { CtkvrError } from '@ctkvr/core';
import { groupSizeOf } from '@ctkvr/model-runner';
import { Command } from 'commander';
import { AnswerMeter, statisticsLine } from '../answer-statistics.js';
import { ChatLines } from '../chat-lines.js';
import type { CommandContext, RunAction } from '../command-context.js';
import { note, print } from '../console-io.js';
import { DocumentChat } from '../document-chat.js';
import { problemOf } from '../error-text.js';
import { Interrupted } from '../interrupt.js';
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

interface ChatFlags extends ModelOptions, SelectorFlags, SamplingFlags, StoreFlags {
  readonly json: boolean;
}

const HELP =
  'Type a question. /new forgets the conversation but not the text, /exit leaves. Ctrl-C stops an answer, twice leaves.';

export function chatCommand(run: RunAction): Command {
  const command = new Command('chat')
    .description('Talk about text files over several turns; they are read once. From a pipe, every line is a question.')
    .argument('[files...]', 'text files in UTF-8 (none: just talk)');
  addModelOptions(command);
  addSelectorOptions(command);
  addSamplingOptions(command);
  addStoreOptions(command);
  return command
    .option('--json', 'print one JSON object per answer, each on a line of its own', false)
    .action((files: string[], flags: ChatFlags) => run((context) => chat(files, flags, context)));
}

async function chat(files: readonly string[], flags: ChatFlags, { io, signal }: CommandContext): Promise<void> {
  if (files.includes('-')) {
    throw new CtkvrError(
      'CTKVR_INVALID_OPTION',
      'chat takes its questions from standard input: give the text as a file',
      {
        fields: { option: 'file' },
      },
    );
  }
  const document = files.length === 0 ? null : await readDocuments(files, { stdin: io.stdin, signal });
  const progress = new ProgressLine(io);
  await using model = await openModel(flags, { progress, signal });
  const reading = { model, files, text: document ?? '', progress, quiet: flags.json, io, signal };
  await using session =
    document === null ? model.createSession(readingOptions(model, flags)) : (await readOnce(flags, reading)).session;
  const onProgress = (state: Parameters<typeof prefillState>[0]) => progress.show(prefillState(state));
  const conversation = new DocumentChat({ model, session, document });
  using lines = new ChatLines(io, signal);
  if (lines.interactive) await note(io, HELP);
  for (;;) {
    const line = await lines.next();
    if (line === null || line === '/exit' || line === '/quit') return;
    if (line === '') continue;
    if (line === '/help') await note(io, HELP);
    else if (line === '/new') await conversation.forget();
    else await answer(line);
  }

  async function answer(question: string): Promise<void> {
    using turn = lines.beginAnswer();
    const meter = new AnswerMeter(groupSizeOf(model.info));
    let text = '';
    try {
      await conversation.ask(question, { signal: turn.signal, onProgress });
      progress.clear();
      const promptTokens = session.length;
      for await (const event of conversation.answer({
        maxTokens: flags.maxTokens,
        sampling: samplingOf(flags),
        signal: turn.signal,
      })) {
        meter.token(event.statistics.counters);
        text += event.text;
        if (!flags.json && event.text) await print(io, event.text);
      }
      const statistics = meter.statistics(promptTokens);
      if (flags.json) {
        const finishReason = session.lastFinish?.reason ?? null;
        await print(io, `${JSON.stringify({ question, answer: text, finishReason, ...statistics })}\n`);
      } else {
        await print(io, text.endsWith('\n') ? '' : '\n');
        if (lines.interactive) await note(io, statisticsLine(statistics));
      }
    } catch (error) {
      progress.clear();
      if (signal.aborted) throw new Interrupted();
      // A question that does not fit, or a stopped one, ends that turn only.
      if (!CtkvrError.isInstance(error) || !endsTheTurnOnly.has(error.code)) throw error;
      if (text !== '' && !flags.json) await print(io, '\n');
      await note(io, error.code === 'CTKVR_ABORTED' ? '(stopped)' : `ctkvr: ${problemOf(error)}; /new makes room`);
    }
  }
}

const endsTheTurnOnly: ReadonlySet<string> = new Set(['CTKVR_ABORTED', 'CTKVR_CONTEXT_EXCEEDED']);
