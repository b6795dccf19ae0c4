/** A chat request about a document that was read: answered on a fork of it. */
import { CtkvrError } from '@ctkvr/core';
import { documentTurn, type Session } from '@ctkvr/model-runner';
import type { AnswerInput, PlannedAnswer } from '../answer-input.js';
import type { ChatEvent, EngineText, PreparedChat } from '../chat-engine.js';
import type { GenerationRequest, Prompt } from '../generation-request.js';
import type { TokenClock } from '../token-clock.js';
import { readAnswer } from '../tools/read-answer.js';
import type { DocumentUse, ModelSessions } from './model-sessions.js';

interface SessionChatParts {
  readonly sessions: ModelSessions | undefined;
  readonly text: EngineText;
  readonly plan: (tokens: Int32Array) => Promise<PlannedAnswer>;
  readonly newClock: () => TokenClock;
  readonly answerFrom: (session: Session, input: AnswerInput) => AsyncGenerator<ChatEvent, void, undefined>;
}

/** Waits until the document is there. @throws {CtkvrError} as `ChatEngine.prepare`; CTKVR_FILE_NOT_FOUND when there is no such session. */
export async function prepareSessionChat(
  request: GenerationRequest,
  signal: AbortSignal,
  parts: SessionChatParts,
): Promise<PreparedChat> {
  const { owner, sessionId: id } = request;
  const use = await parts.sessions?.use({ owner, id: id ?? '' }, signal);
  if (!use) throw new CtkvrError('CTKVR_FILE_NOT_FOUND', `there is no session ${id}`);
  const { document, release } = use;
  try {
    const tokens = await parts.text.tokensOf(withDocument(request.prompt, document.text), signal);
    const maxTokens = maxTokensOf(request, tokens.length, document.contextLength);
    const planned = await parts.plan(tokens);
    const run = (running: AbortSignal) =>
      readAnswer(answer(tokens, { request, planned, maxTokens, signal: running, use, parts }), planned);
    return { numPromptTokens: tokens.length, run, close: release };
  } catch (error) {
    release();
    throw error;
  }
}

interface Answering extends Omit<AnswerInput, 'clock' | 'numCachedTokens'> {
  readonly use: DocumentUse;
  readonly parts: SessionChatParts;
}

async function* answer(
  tokens: Int32Array,
  { use, parts, ...given }: Answering,
): AsyncGenerator<ChatEvent, void, undefined> {
  yield { type: 'opened' };
  const clock = parts.newClock();
  const begin = () => use.document.begin(tokens, { signal: given.signal });
  const { session, numCachedTokens } = await parts.sessions!.withRoom(begin);
  try {
    yield* parts.answerFrom(session, { ...given, clock, numCachedTokens });
  } finally {
    await session.close();
  }
}

/** The document stands before the first message, as it did when it was read. */
function withDocument(prompt: Prompt, document: string): Prompt {
  if (prompt.type !== 'messages') throw new Error('a request about a session has messages');
  const [first, ...others] = prompt.messages;
  const content = documentTurn({ document, question: first!.content });
  return { ...prompt, messages: [{ ...first!, content }, ...others] };
}

function maxTokensOf({ maxTokens }: GenerationRequest, numPromptTokens: number, contextLength: number): number {
  const room = contextLength - numPromptTokens;
  if (room >= 1) return Math.min(maxTokens ?? room, room);
  throw new CtkvrError(
    'CTKVR_CONTEXT_EXCEEDED',
    `This session has room for ${contextLength} tokens, and the document with the messages has ${numPromptTokens}: no room for an answer.`,
    { fields: { contextLength, promptTokens: numPromptTokens } },
  );
}
