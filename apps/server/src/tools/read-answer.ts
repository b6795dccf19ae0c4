/** Turns the text of an answer into its parts. Tokens that were scored go with the first part that is given out after them. */
import type { ChatEvent, ScoredToken } from '../chat-engine.js';
import type { ReadMap } from '../read-map.js';
import type { AnswerParser, AnswerPart } from './answer-parser.js';

/** @param newParser null = the text has no parts. */
export function readAnswer(
  events: AsyncGenerator<ChatEvent, void, undefined>,
  { newParser }: { readonly newParser: (() => AnswerParser) | null },
): AsyncGenerator<ChatEvent, void, undefined> {
  return newParser === null ? events : parseEvents(events, newParser());
}

async function* parseEvents(
  events: AsyncIterable<ChatEvent>,
  parser: AnswerParser,
): AsyncGenerator<ChatEvent, void, undefined> {
  let tokens: ScoredToken[] = [];
  let readMap: ReadMap | null | undefined;
  const withTokens = (part: AnswerPart): ChatEvent => {
    const scored = tokens.length === 0 ? part : { ...part, tokens };
    tokens = [];
    return scored.type === 'text' && readMap !== undefined ? { ...scored, readMap } : scored;
  };
  for await (const event of events) {
    if (event.type === 'text') {
      tokens.push(...(event.tokens ?? []));
      readMap = event.readMap; // of a text that was held back, the last one
      yield* parser.push(event.text).map(withTokens);
    } else if (event.type === 'finish') {
      yield* parser.end().map(withTokens);
      if (tokens.length > 0) yield withTokens({ type: 'text', text: '' });
      const called = event.finish.reason === 'stop' && parser.numCalls > 0;
      yield called ? { ...event, finish: { ...event.finish, reason: 'toolCalls' } } : event;
    } else {
      yield event;
    }
  }
}
