/** The read maps beside an answer's text: of each piece, and of the whole. */
import type { ChatEvent, ChatFinish } from './chat-engine.js';
import { ReadMapSum } from './read-map.js';

export class AnswerReadMaps {
  readonly #piece = new ReadMapSum();
  readonly #answer = new ReadMapSum();

  add(map: Float32Array | null): void {
    this.#piece.add(map);
    this.#answer.add(map);
  }

  /** Returns a text with the map of the tokens since the last one. */
  tell(event: ChatEvent): ChatEvent {
    return event.type === 'text' ? { ...event, readMap: this.#piece.take() } : event;
  }

  ofAnswer(): Pick<ChatFinish, 'readMap'> {
    return { readMap: this.#answer.take() };
  }
}
