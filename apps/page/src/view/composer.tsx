import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { askHere, stop } from '../state/asking.js';
import { isRunning } from '../state/conversation.js';
import { conversation, keyOf } from '../state/conversations.js';
import type { Place } from '../state/place.js';

/** Where a question is written. Enter sends it, Shift and Enter begin a new line. */
export function Composer({ here, label }: { here: Place; label: string }) {
  const text = useSignal('');
  const field = useRef<HTMLTextAreaElement>(null);
  const last = conversation(keyOf(here)).value.at(-1);
  const isBusy = last !== undefined && isRunning(last.answer);
  useEffect(() => {
    // On a phone the keyboard would come up over half of the page.
    if (matchMedia('(min-width: 700px)').matches) field.current!.focus({ preventScroll: true });
  }, []);
  const send = () => {
    const question = text.value.trim();
    if (question === '' || isBusy) return;
    text.value = '';
    askHere(here, question);
  };
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <textarea
        ref={field}
        aria-label={label}
        placeholder={label === 'Question' ? 'Ask the document' : 'Write a message'}
        rows={1}
        value={text.value}
        onInput={(event) => {
          text.value = event.currentTarget.value;
        }}
        onKeyDown={(event) => {
          // Enter also ends the composition of letters in some scripts.
          if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
          event.preventDefault();
          send();
        }}
      />
      {isBusy ? (
        <button type="button" onClick={() => stop(here)}>
          Stop
        </button>
      ) : (
        <button type="submit" class="button" disabled={text.value.trim() === ''}>
          Ask
        </button>
      )}
    </form>
  );
}
