import { useEffect, useRef } from 'preact/hooks';
import { isRunning } from '../state/conversation.js';
import { conversation, keyOf } from '../state/conversations.js';
import type { Place } from '../state/place.js';
import { AnswerView } from './answer-view.js';

interface ConversationProps {
  readonly here: Place;
  readonly documentId: string | null;
  /** What is said while nothing has been asked. */
  readonly hint: string;
}

/** Above the newest question when it has come to the top. */
const MARGIN_PX = 8;

/**
 * All questions and answers. It follows the end of an answer that comes in until the question is at the top, so that an answer can be read
 * from its beginning; and no further when the reader has scrolled away.
 */
export function Conversation({ here, documentId, hint }: ConversationProps) {
  const turns = conversation(keyOf(here)).value;
  const list = useRef<HTMLElement>(null);
  const follows = useRef(true);
  const last = turns.at(-1);
  useEffect(() => {
    follows.current = true;
  }, [turns.length]);
  useEffect(() => {
    if (!follows.current) return;
    const { scrollHeight, scrollTop } = list.current!;
    const question = list.current!.querySelector('article:last-of-type');
    const down =
      question === null ? 0 : question.getBoundingClientRect().top - list.current!.getBoundingClientRect().top;
    list.current!.scrollTop = Math.min(scrollHeight, scrollTop + down - MARGIN_PX);
  }, [turns]);
  return (
    <section
      ref={list}
      class="conversation"
      aria-label="Conversation"
      // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached with the keyboard.
      tabIndex={0}
      onScroll={({ currentTarget: { scrollHeight, scrollTop, clientHeight } }) => {
        follows.current = scrollHeight - scrollTop - clientHeight < 40;
      }}
    >
      {turns.length === 0 && <p class="hint">{hint}</p>}
      {turns.map((turn, index) => (
        // Turns are only ever added at the end.
        <article key={index} class="turn">
          <h2 class="question">{turn.question}</h2>
          <AnswerView turn={index} answer={turn.answer} documentId={documentId} isNewest={index === turns.length - 1} />
        </article>
      ))}
      <p role="status" class="for-ears">
        {last !== undefined && (isRunning(last.answer) ? 'The answer is being written.' : 'The answer has ended.')}
      </p>
    </section>
  );
}
