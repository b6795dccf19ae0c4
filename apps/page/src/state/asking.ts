/** Asks a question and writes the answer into the conversation as it comes. */
import { type AnswerEvent, ask, type Message } from '../server/ask.js';
import { explain } from '../server/explain.js';
import { listChat } from './chats.js';
import { type Answer, emptyAnswer, isRunning } from './conversation.js';
import { keep, keyOf, loadedConversation } from './conversations.js';
import { documents } from './documents.js';
import { model } from './models.js';
import { asksForKey } from './notice.js';
import type { Place } from './place.js';

/** What stops the running answers, by conversation. */
const running = new Map<string, AbortController>();

export function stop(place: Place): void {
  running.get(keyOf(place))?.abort();
}

/** Questions of a document are asked of the document alone; in a chat the model is told all that was said. */
export async function askHere(place: Place, question: string): Promise<void> {
  const key = keyOf(place);
  if (running.has(key)) return;
  const controller = new AbortController();
  running.set(key, controller);
  const turns = await loadedConversation(key);
  const earlier =
    place.kind === 'chat' ? turns.value.flatMap(({ question, answer }) => messagesOf(question, answer)) : [];
  turns.value = [...turns.value, { question, answer: emptyAnswer }];
  if (place.kind === 'chat') listChat(place.id, question);
  const change = (changes: Partial<Answer>) => {
    const last = turns.value.at(-1)!;
    turns.value = [...turns.value.slice(0, -1), { ...last, answer: { ...last.answer, ...changes } }];
  };
  const answer = new IncomingAnswer();
  try {
    const events = ask({
      model: modelAt(place),
      documentId: place.kind === 'document' ? place.id : null,
      messages: [...earlier, { role: 'user', content: question }],
      signal: controller.signal,
    });
    for await (const event of events) change(answer.take(event, performance.now()));
    change({ state: 'done' });
  } catch (error) {
    if (controller.signal.aborted) change({ state: 'stopped' });
    else {
      change({ state: 'failed', failure: explain(error) });
      asksForKey(error);
    }
  } finally {
    running.delete(key);
    await keep(key);
  }
}

/** A document is asked of the model that has read it. */
function modelAt(place: Place): string {
  const document = place.kind === 'document' ? documents.value?.find(({ id }) => id === place.id) : undefined;
  return document?.model ?? model.value;
}

/** What is known of an answer while it comes in. */
class IncomingAnswer {
  readonly #askedAt = performance.now();
  readonly #tokens: string[] = [];
  readonly #readMaps: Answer['readMaps'][number][] = [];
  #firstAt = 0;

  /** Returns what an event changes. @param now ms on performance's clock */
  take(event: AnswerEvent, now: number): Partial<Answer> {
    if (event.kind === 'thought') return { state: 'thinking' };
    if (event.kind === 'cut') return { isCut: true };
    if (event.kind === 'statistics') return { statistics: event.statistics };
    if (this.#tokens.length === 0) this.#firstAt = now;
    this.#tokens.push(event.text);
    this.#readMaps.push(event.readMap);
    const seconds = (now - this.#firstAt) / 1000;
    return {
      state: 'writing',
      // The lists grow in place; that the answer is another object is what views look at.
      tokens: this.#tokens,
      readMaps: this.#readMaps,
      firstTokenMs: this.#firstAt - this.#askedAt,
      tokensPerSecond: seconds > 0 ? (this.#tokens.length - 1) / seconds : null,
    };
  }
}

/** A failed question is not told again. */
function messagesOf(question: string, answer: Answer): Message[] {
  if (answer.tokens.length === 0 || isRunning(answer)) return [];
  return [
    { role: 'user', content: question },
    { role: 'assistant', content: answer.tokens.join('') },
  ];
}
