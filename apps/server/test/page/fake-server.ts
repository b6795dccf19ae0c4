/** What the page asks of the server, without a model: the same routes and bodies, documents that are read as fast as a test wants. */
import type { AddressInfo } from 'node:net';
import { serve } from '@hono/node-server';
import { type Context, Hono } from 'hono';
import { streamSSE } from 'hono/streaming';
import { addPageRoutes } from '../../src/page-routes.js';
import { answerTokens, readMapAt } from './fake-answer.js';
import { lighthouseLog } from './lighthouse-log.js';
import { Tap } from './tap.js';

interface FakeDocument {
  readonly id: string;
  readonly model: string;
  name: string;
  state: 'reading' | 'ready' | 'failed' | 'saved';
  tokens_done: number;
  readonly tokens_total: number;
  readonly created: number;
  error?: { message: string };
}

interface Refusal {
  readonly status: 400 | 429;
  readonly message: string;
  readonly code: string;
}

const PASSAGE_TOKENS = 32;

export class FakeServer {
  readonly documents = new Map<string, FakeDocument>();
  readonly passages = lighthouseLog();
  /** Lets the reading of documents go on, a tenth a drop. */
  readonly reading = new Tap();
  /** Lets answers go on, a token a drop. */
  readonly answering = new Tap();
  /** Bodies of the questions that came, newest last. */
  readonly questions: Record<string, unknown>[] = [];
  /** Texts of the documents that came. */
  readonly received: string[] = [];
  answer = answerTokens;
  models: readonly { readonly id: string; readonly context_length?: number }[] = [
    { id: 'smollm2-135m', context_length: 16_384 },
  ];
  /** Whether it has document sessions. */
  keepsDocuments = true;
  /** null = no key is asked for. */
  key: string | null = null;
  /** What the next question gets in place of an answer. */
  refusal: Refusal | null = null;
  /** Whether the next stream of a document's reading ends too early. */
  cutsReading = false;
  /** Answers whose client has left. */
  numLeft = 0;
  readonly #listening: ReturnType<typeof serve>;

  private constructor(page: string, listens: () => void) {
    const app = new Hono();
    addPageRoutes(app, page);
    app.use('/v1/*', async (context, next) => {
      if (this.key !== null && context.req.header('authorization') !== `Bearer ${this.key}`)
        return context.json({ error: { message: 'The API key is missing or wrong.', code: 'invalid_api_key' } }, 401);
      await next();
    });
    app.get('/v1/models', (context) => context.json({ data: this.models }));
    this.#addDocumentRoutes(app);
    app.post('/v1/chat/completions', (context) => this.#answer(context));
    this.#listening = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }, listens);
  }

  /** Resolves when it listens. @param page folder of the built page */
  static start(page: string): Promise<FakeServer> {
    return new Promise((resolve) => {
      const server: FakeServer = new FakeServer(page, () => resolve(server));
    });
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#listening.address() as AddressInfo).port}`;
  }

  /** A document that has been read. */
  addReady(name: string, model = 'smollm2-135m'): FakeDocument {
    const total = this.passages.length * PASSAGE_TOKENS;
    return this.#add({ name, model, state: 'ready', tokens_done: total, tokens_total: total });
  }

  close(): Promise<void> {
    this.reading.runFreely();
    this.answering.runFreely();
    return new Promise((resolve) => {
      this.#listening.close(() => resolve());
      if ('closeAllConnections' in this.#listening) this.#listening.closeAllConnections();
    });
  }

  #add(document: Omit<FakeDocument, 'id' | 'created'>): FakeDocument {
    const n = this.documents.size + 1;
    const added = { ...document, id: `doc-${n}`, created: 1_790_000_000 + n };
    this.documents.set(added.id, added);
    return added;
  }

  #addDocumentRoutes(app: Hono): void {
    app.get('/v1/sessions', (context) => {
      if (!this.keepsDocuments) return context.notFound();
      return context.json({ object: 'list', data: [...this.documents.values()] });
    });
    app.post('/v1/sessions', async (context) => {
      const { name, model, text } = await documentOf(context);
      this.received.push(text);
      if (name.endsWith('.bin'))
        return context.json({ error: { message: 'This is not a text.', code: 'unreadable' } }, 415);
      const total = this.passages.length * PASSAGE_TOKENS;
      return context.json(this.#add({ name, model, state: 'reading', tokens_done: 0, tokens_total: total }), 202);
    });
    app.use('/v1/sessions/:id/*', async (context, next) => {
      const id = context.req.param('id');
      if (!this.documents.has(id))
        return context.json({ error: { message: `There is no session '${id}'.`, code: 'not_found' } }, 404);
      await next();
    });
    const find = (context: Context) => this.documents.get(context.req.param('id')!)!;
    app.get('/v1/sessions/:id', (context) => context.json(find(context)));
    app.patch('/v1/sessions/:id', async (context) => {
      const document = find(context);
      document.name = (await context.req.json()).name;
      return context.json(document);
    });
    app.delete('/v1/sessions/:id', (context) => {
      this.documents.delete(find(context).id);
      return context.body(null, 204);
    });
    app.get('/v1/sessions/:id/export', (context) => context.body(`session ${find(context).id}`));
    app.get('/v1/sessions/:id/passages', (context) =>
      context.json({ passage_tokens: PASSAGE_TOKENS, passages: this.passages }),
    );
    app.get('/v1/sessions/:id/events', (context) =>
      streamSSE(context, async (stream) => {
        const document = find(context);
        while (document.state === 'reading') {
          await stream.writeSSE({ data: JSON.stringify(document) });
          if (this.cutsReading) {
            this.cutsReading = false;
            return;
          }
          await this.reading.drop();
          document.tokens_done = Math.min(document.tokens_done + document.tokens_total / 10, document.tokens_total);
          if (document.tokens_done === document.tokens_total) document.state = 'ready';
        }
        await stream.writeSSE({ data: JSON.stringify(document) });
      }),
    );
  }

  async #answer(context: Context) {
    const body = await context.req.json();
    this.questions.push(body);
    const { refusal } = this;
    this.refusal = null;
    if (refusal !== null) {
      const { status, message, code } = refusal;
      return context.json({ error: { message, code } }, status, status === 429 ? { 'retry-after': '7' } : {});
    }
    return streamSSE(context, async (stream) => {
      stream.onAbort(() => {
        this.numLeft += 1;
      });
      const send = (data: object) => stream.writeSSE({ data: JSON.stringify(data) });
      for (const [at, content] of this.answer.entries()) {
        await this.answering.drop();
        if (stream.aborted) return;
        const ctkvr = body.ctkvr?.read_map ? { ctkvr: { read_map: readMapAt(at, this.passages) } } : {};
        await send({ choices: [{ delta: { content }, finish_reason: null }], ...ctkvr });
      }
      await send({ choices: [{ delta: {}, finish_reason: 'stop' }] });
      await send({ choices: [], usage: { completion_tokens: this.answer.length }, ctkvr: statistics });
      await stream.writeSSE({ data: '[DONE]' });
    });
  }
}

const statistics = {
  time_to_first_token_ms: 412,
  ms_per_token: 21.4,
  keys_read_per_head: 2107,
  keys_per_head: 12_288,
};

async function documentOf(context: Context): Promise<{ name: string; model: string; text: string }> {
  if (context.req.header('content-type')?.startsWith('application/json')) return context.req.json();
  const form = await context.req.formData();
  const file = form.get('file') as File;
  return { name: String(form.get('name') ?? file.name), model: String(form.get('model')), text: await file.text() };
}
