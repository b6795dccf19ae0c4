/** Where the reader is. It is the address's part after `#`, so that it survives a reload and the back button works. */
import { signal } from '@preact/signals';

export type Place =
  | { readonly kind: 'start' }
  | { readonly kind: 'document'; readonly id: string }
  | { readonly kind: 'chat'; readonly id: string };

export function parsePlace(hash: string): Place {
  const [, kind, id] = /^#\/(documents|chats)\/([\w.-]+)$/.exec(hash) ?? [];
  if (id === undefined) return { kind: 'start' };
  return { kind: kind === 'documents' ? 'document' : 'chat', id };
}

export function addressOf(place: Place): string {
  return place.kind === 'start' ? '#/' : `#/${place.kind}s/${place.id}`;
}

export const place = signal<Place>(parsePlace(location.hash));
addEventListener('hashchange', () => {
  place.value = parsePlace(location.hash);
});

export function goTo(next: Place): void {
  location.hash = addressOf(next);
}
