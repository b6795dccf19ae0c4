import { stop } from '../state/asking.js';
import { type Chat, deleteChat } from '../state/chats.js';
import { addressOf } from '../state/place.js';
import { useConfirmation } from './confirm-dialog.js';

export function ChatItem({ chat, isCurrent }: { chat: Chat; isCurrent: boolean }) {
  const here = { kind: 'chat', id: chat.id } as const;
  const [confirm, confirmation] = useConfirmation({
    title: 'Delete this chat?',
    text: `“${chat.name}” is kept by this browser only.`,
    action: 'Delete',
    onConfirm: () => {
      stop(here);
      deleteChat(chat.id);
    },
  });
  return (
    <li class={isCurrent ? 'item current' : 'item'}>
      <a href={addressOf(here)} aria-current={isCurrent ? 'page' : undefined}>
        <span class="name">{chat.name}</span>
      </a>
      {isCurrent && (
        <div class="actions">
          <button type="button" class="quiet" onClick={confirm}>
            Delete
          </button>
        </div>
      )}
      {confirmation}
    </li>
  );
}
