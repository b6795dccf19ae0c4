const MAX_CHARACTERS = 60;

/** What a client sent, as an error's text shows it: never long, so that a body is not sent back. Cut between characters, not within one. */
export function shortened(text: string): string {
  if (text.length <= MAX_CHARACTERS) return text;
  const end = /[\ud800-\udbff]/.test(text.charAt(MAX_CHARACTERS - 1)) ? MAX_CHARACTERS - 1 : MAX_CHARACTERS;
  return `${text.slice(0, end)}…`;
}
