import { ServerError } from './server-error.js';

/** What went wrong, and what the reader can do about it. */
export interface Failure {
  readonly what: string;
  readonly remedy: string;
}

const remedies: Record<number, string> = {
  400: 'Change what you sent, and send it again.',
  401: 'Enter the key that you were given by whoever runs the server.',
  403: 'Ask whoever runs the server to let this address in.',
  404: 'It may have been deleted, or the server was started anew. Add the document again.',
  413: 'Split it, and add the part that you need.',
  415: 'Save it as plain text, Markdown, HTML or PDF, or pack sources as .zip or .tar.gz, and add that.',
  429: 'Others are being answered. Try again in a moment.',
  503: 'Try again in a moment.',
};

const remediesByCode: Record<string, string> = {
  context_length_exceeded: 'Use a shorter text, or start the server with a model that has a longer context.',
  insufficient_memory: 'Delete documents that you no longer need, then try again.',
  device_lost: 'The server has to be started again.',
  shutting_down: 'Start the server again, then try again.',
};

/** Puts anything that was thrown on the way to the server or back into words. */
export function explain(error: unknown): Failure {
  if (!(error instanceof ServerError)) {
    // fetch throws a TypeError for every reason why there is no answer.
    if (error instanceof TypeError)
      return { what: 'The server cannot be reached.', remedy: 'See whether it still runs, then try again.' };
    return { what: `This page failed: ${String(error)}`, remedy: 'Load it anew.' };
  }
  const { status, code, retryAfter, message } = error;
  if (retryAfter !== null) return { what: message, remedy: `Try again in ${retryAfter} s.` };
  const remedy = remediesByCode[code ?? ''] ?? remedies[status] ?? 'Try again; the log of the server says more.';
  return { what: message, remedy };
}
