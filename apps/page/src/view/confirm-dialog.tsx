import { useSignal } from '@preact/signals';
import type { VNode } from 'preact';
import { Dialog } from './dialog.js';

interface Confirmation {
  readonly title: string;
  readonly text: string;
  /** What the button that does it says. */
  readonly action: string;
  readonly onConfirm: () => void;
}

/** Returns what asks for the confirmation, and the dialog to render. */
export function useConfirmation({ title, text, action, onConfirm }: Confirmation): [() => void, VNode | null] {
  const isAsked = useSignal(false);
  const close = () => {
    isAsked.value = false;
  };
  const ask = () => {
    isAsked.value = true;
  };
  if (!isAsked.value) return [ask, null];
  return [
    ask,
    <Dialog key="confirm" title={title} onCancel={close}>
      <p>{text}</p>
      <div class="buttons">
        <button type="button" onClick={close}>
          Cancel
        </button>
        <button
          type="button"
          class="button danger"
          onClick={() => {
            close();
            onConfirm();
          }}
        >
          {action}
        </button>
      </div>
    </Dialog>,
  ];
}
