/** From what a caller prefills (text, tokens or messages) to the tokens that are added to a session. */
import { CtkvrError } from '@ctkvr/core';
import type { ChatMessage } from './chat-template.js';
import { Conversation } from './conversation.js';
import type { SessionHost } from './session-host.js';
import type { StoredSequence } from './stored-sequence.js';

/** Text (tokenized without special tokens), token ids, or messages. */
export type PromptInput = string | ArrayLike<number> | readonly ChatMessage[];

type TextOrTokens = string | ArrayLike<number>;

export interface PromptPlan {
  /** Tokens of the session that stay. */
  readonly keep: number;
  /** Tokens to add behind them. */
  readonly added: ArrayLike<number>;
  /** The session's messages afterwards; null when it holds text that came from no message. */
  readonly conversation: Conversation | null;
}

export interface PromptPlanInput {
  readonly host: SessionHost;
  readonly sequence: StoredSequence;
  readonly conversation: Conversation | null;
  readonly addGenerationPrompt: boolean;
  readonly signal: AbortSignal;
}

/** Returns what to add; changes nothing. @throws {CtkvrError} CTKVR_INVALID_OPTION for an empty prompt, unknown token ids, odd messages. */
export async function planPrompt(input: PromptInput, context: PromptPlanInput): Promise<PromptPlan> {
  const messages = messagesOf(input);
  const plan =
    messages === null ? await planPlain(input as TextOrTokens, context) : await planMessages(messages, context);
  if (plan.keep + plan.added.length === 0 || (plan.added.length === 0 && messages === null)) {
    throw new CtkvrError('CTKVR_INVALID_OPTION', 'the prompt is empty: pass text, tokens or messages', {
      fields: { option: 'prompt' },
    });
  }
  return plan;
}

async function planPlain(input: TextOrTokens, context: PromptPlanInput): Promise<PromptPlan> {
  const { host, sequence } = context;
  const keep = sequence.length;
  if (typeof input !== 'string') {
    checkTokens(input, host.info.vocabSize);
    return { keep, added: input, conversation: null };
  }
  const ids = await host.tokenizePieces([{ text: input, tokenId: null }]);
  return { keep, added: keep === 0 ? withBos(ids, host) : ids, conversation: null };
}

async function planMessages(messages: readonly ChatMessage[], context: PromptPlanInput): Promise<PromptPlan> {
  const { host, sequence, addGenerationPrompt } = context;
  const conversation = context.conversation ?? new Conversation();
  const turn = await conversation.planTurn(messages, {
    template: host.chatTemplate(),
    options: { addGenerationPrompt },
    signal: context.signal,
  });
  const ids = await host.tokenizePieces(turn.pieces);
  // A session that began with plain text keeps it; a conversation that is rendered anew keeps what is still the same.
  if (context.conversation === null || !turn.fromStart) {
    const keep = sequence.length;
    return {
      keep,
      added: keep === 0 ? withBos(ids, host) : ids,
      conversation: context.conversation && turn.conversation,
    };
  }
  const whole = withBos(ids, host);
  const keep = sequence.commonPrefix(whole);
  return { keep, added: whole.slice(keep), conversation: turn.conversation };
}

function withBos(ids: number[], host: SessionHost): number[] {
  return host.lacksBos(ids) ? [host.info.bosTokenId ?? 0, ...ids] : ids;
}

/** Returns the input as checked messages; null when it is text or tokens. @throws {CtkvrError} CTKVR_INVALID_OPTION when it is none of these. */
function messagesOf(input: unknown): readonly ChatMessage[] | null {
  if (typeof input === 'string') return null;
  if (!Array.isArray(input)) {
    if (Number.isInteger((input as Partial<ArrayLike<number>> | null)?.length)) return null;
    throw notAPrompt(input);
  }
  if (input.length === 0 || typeof input[0] === 'number') return null;
  checkMessages(input);
  return input;
}

/** @throws {CtkvrError} CTKVR_INVALID_OPTION naming the first that is no message. */
export function checkMessages(messages: unknown): asserts messages is readonly ChatMessage[] {
  if (!Array.isArray(messages)) throw notAPrompt(messages);
  messages.forEach((message: Partial<ChatMessage> | null, index) => {
    if (typeof message?.role === 'string' && typeof message.content === 'string') return;
    throw new CtkvrError('CTKVR_INVALID_OPTION', `message ${index} must have a role and a content, both text`, {
      fields: { option: 'messages', index },
    });
  });
}

function notAPrompt(input: unknown): CtkvrError {
  const isMessage = typeof input === 'object' && input !== null && ('role' in input || 'content' in input);
  const actual = isMessage ? 'one message' : input === null ? 'null' : typeof input;
  return new CtkvrError(
    'CTKVR_INVALID_OPTION',
    `a prompt must be a text, token ids, or a list of messages, got ${actual}${isMessage ? ': put it into a list' : ''}`,
    { fields: { option: 'prompt', expected: 'a text, token ids, or a list of messages', actual } },
  );
}

function checkTokens(tokens: ArrayLike<number>, vocabSize: number): void {
  for (let i = 0; i < tokens.length; i++) {
    const token = tokens[i];
    if (Number.isInteger(token) && (token as number) >= 0 && (token as number) < vocabSize) continue;
    throw new CtkvrError(
      'CTKVR_INVALID_OPTION',
      `token ${i} of the prompt must be an id from 0 to ${vocabSize - 1}, got ${String(token)}: these are not this model's tokens`,
      { fields: { option: 'tokens', index: i, actual: String(token), vocabSize } },
    );
  }
}
