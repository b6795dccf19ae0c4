/** Turns the text of an answer into its parts. Tokens that were scored go with the first part that is given out after them. */
import type { ChatEvent, ScoredToken } from '../chat-engine.js';
import type { AnswerParser, AnswerPart } from './answer-parser.js';

export async function* readAnswer(
  events: AsyncIterable<ChatEvent>,
  parser: AnswerParser,
): AsyncGenerator<ChatEvent, void, undefined> {
  let tokens: ScoredToken[] = [];
  const withTokens = (part: AnswerPart): ChatEvent => {
    const event = tokens.length === 0 ? part : { ...part, tokens };
    tokens = [];
    return event;
  };
  for await (const event of events) {
    if (event.type === 'text') {
      tokens.push(...(event.tokens ?? []));
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
