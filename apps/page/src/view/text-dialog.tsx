import { useRef } from 'preact/hooks';
import { Dialog } from './dialog.js';

interface TextDialogProps {
  readonly title: string;
  readonly label: string;
  readonly value: string;
  readonly isSecret?: boolean;
  /** What the button that ends it says. */
  readonly action: string;
  /** Gets the text without spaces around it; null = cancelled, or no text. */
  readonly onDone: (text: string | null) => void;
}

/** Asks for one line of text. */
export function TextDialog({ title, label, value, isSecret = false, action, onDone }: TextDialogProps) {
  const input = useRef<HTMLInputElement>(null);
  return (
    <Dialog title={title} onCancel={() => onDone(null)}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          onDone(input.current!.value.trim() || null);
        }}
      >
        <label>
          {label}
          <input
            ref={input}
            {...(isSecret ? { type: 'password' } : { type: 'text' })}
            autocomplete="off"
            required
            maxLength={200}
            defaultValue={value}
          />
        </label>
        <div class="buttons">
          <button type="button" onClick={() => onDone(null)}>
            Cancel
          </button>
          <button type="submit" class="button">
            {action}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
