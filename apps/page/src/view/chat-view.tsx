import type { Place } from '../state/place.js';
import { Composer } from './composer.js';
import { Conversation } from './conversation.js';

/** A chat without a document. */
export function ChatView({ here }: { here: Place }) {
  return (
    <>
      <div class="title">
        <h1>Chat</h1>
      </div>
      <Conversation
        here={here}
        documentId={null}
        hint="Ask the model anything. It is told all that was said in this chat."
      />
      <Composer here={here} label="Message" />
    </>
  );
}
