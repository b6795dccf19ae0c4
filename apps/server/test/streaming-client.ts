/** A client that reads greedy streams and notes when their pieces came. */
export interface StreamedAnswer {
  readonly status: number;
  readonly text: string;
  /** Whether it was cut off by the caller's signal. */
  readonly left: boolean;
  /** Milliseconds between two pieces of the text. */
  readonly gapsMs: readonly number[];
}

export interface Question {
  readonly content: string;
  readonly max_tokens: number;
}

export class SentenceClient {
  readonly #url: string;

  constructor(url: string) {
    this.#url = url;
  }

  async ask({ content, ...more }: Question, signal?: AbortSignal): Promise<StreamedAnswer> {
    let [status, text] = [0, ''];
    const gapsMs: number[] = [];
    try {
      const messages = [{ role: 'user', content }];
      const response = await fetch(`${this.#url}/v1/chat/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ model: 'test-model', messages, temperature: 0, stream: true, ...more }),
        ...(signal === undefined ? {} : { signal }),
      });
      status = response.status;
      if (status !== 200) await response.text();
      else {
        let last: number | null = null;
        for await (const piece of piecesOf(response)) {
          const now = performance.now();
          if (last !== null) gapsMs.push(now - last);
          last = now;
          text += piece;
        }
      }
    } catch (error) {
      if (signal?.aborted !== true) throw error;
      return { status, text, gapsMs, left: true };
    }
    return { status, text, gapsMs, left: false };
  }
}

/** @throws for an error in the midst of the stream. */
async function* piecesOf(response: Response): AsyncGenerator<string> {
  let buffered = '';
  for await (const text of response.body!.pipeThrough(new TextDecoderStream())) {
    const blocks = (buffered + text).split('\n\n');
    buffered = blocks.pop()!;
    for (const block of blocks) {
      const data = block.match(/^data: (.*)$/m)?.[1];
      if (data === undefined || data === '[DONE]') continue;
      const { choices, error } = JSON.parse(data);
      if (error !== undefined) throw new Error(error.message);
      const piece = choices[0]?.delta.content ?? '';
      if (piece !== '') yield piece;
    }
  }
}

/** @param share 0 to 1. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
}
