/** GET /openapi.json: an OpenAPI 3.1 document of every route, made from the tables and schemas that check the requests. */
import type { Hono } from 'hono';
import { type AnswerName, answerSchemas } from './answer-schemas.js';
import { type JsonSchema, toJsonSchema } from './body-schema.js';
import { type Operation, operations } from './operations.js';
import { sessionOperations } from './session-operations.js';

const reasons: Readonly<Record<number, string>> = {
  400: 'The request is at fault; `param` names the field',
  403: 'This caller is not allowed',
  404: 'There is no such model, or session',
  405: 'The path has no such method',
  413: 'The body is too large',
  415: 'The body is not sent as JSON',
  429: 'Too many wait; see Retry-After',
  500: 'A bug',
  503: 'The server stops, or cannot answer now',
};

/** Of each of a stream's. */
const event: JsonSchema = {
  type: 'object',
  properties: { event: { type: 'string' }, data: { type: 'string', description: 'JSON, or [DONE]' } },
  required: ['data'],
};

/** Routes whose 503 has the body of their answer. */
const statusRoutes: readonly string[] = ['/health', '/ready'];

export interface DocumentedServer {
  /** The names that clients may send as `model`. */
  readonly modelIds: readonly string[];
  readonly hasSessions: boolean;
}

export function addOpenApi(app: Hono, server: DocumentedServer): void {
  let document: object | null = null; // it takes some milliseconds, and few ask
  app.get('/openapi.json', (context) => {
    document ??= openApiDocument(server);
    return context.json(document);
  });
}

function openApiDocument({ modelIds, hasSessions }: DocumentedServer): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const operation of hasSessions ? [...operations, ...sessionOperations] : operations) {
    paths[operation.path] = { ...paths[operation.path], [operation.method]: describe(operation, modelIds) };
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'CTkvr server',
      version: '1',
      description: 'Errors in the midst of a stream are frames of it.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    paths,
    components: {
      schemas: Object.fromEntries(Object.entries(answerSchemas).map(([name, schema]) => [name, toJsonSchema(schema)])),
    },
  };
}

function describe(operation: Operation, modelIds: readonly string[]): object {
  const { method, path, summary, query = [] } = operation;
  const names = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name!);
  const parameters = [
    ...names.map((name) => pathParameter(name, path, modelIds)),
    ...query.map((name) => queryParameter(name, modelIds)),
  ];
  return {
    operationId: `${method}${path.replaceAll(/[^\w]+(\w?)/g, (_, letter: string) => letter.toUpperCase())}`,
    summary,
    ...(parameters.length === 0 ? {} : { parameters }),
    ...requestOf(operation, modelIds),
    responses: responsesOf(operation),
  };
}

function requestOf({ body, example, otherBodies = [] }: Operation, modelIds: readonly string[]): object {
  const others = Object.fromEntries(otherBodies.map((type) => [type, {}]));
  if (body === undefined) return otherBodies.length === 0 ? {} : { requestBody: { required: true, content: others } };
  const hasModel = body.properties !== undefined && 'model' in body.properties;
  const media = {
    schema: hasModel ? withModels(body, modelIds) : body,
    example: hasModel ? { model: modelIds[0], ...example } : example,
  };
  return { requestBody: { required: true, content: { 'application/json': media, ...others } } };
}

function responsesOf({ path, answer, answers, status = 200, streams, errors, errorShape = 'error' }: Operation) {
  const responses: Record<string, object> = {};
  if (answer !== undefined) {
    const events = streams ? { 'text/event-stream': { schema: event } } : {};
    responses[status] = { description: 'The answer', content: { ...json(referTo(answer)), ...events } };
    if (statusRoutes.includes(path)) responses['503'] = { description: reasons[503], content: json(referTo(answer)) };
  }
  if (answers !== undefined) responses[status] = { description: 'The answer', content: { [answers]: {} } };
  for (const failed of [...errors, 403, 500]) {
    responses[failed] = { description: reasons[failed], content: json(referTo(errorShape)) };
  }
  return responses;
}

/** Paths name models and sessions. */
function pathParameter(name: string, path: string, modelIds: readonly string[]): object {
  const isModel = path.startsWith('/v1/models');
  return { name, in: 'path', required: true, schema: { type: 'string', ...(isModel ? { enum: modelIds } : {}) } };
}

function queryParameter(name: string, modelIds: readonly string[]): object {
  return { name, in: 'query', schema: { type: 'string', ...(name === 'model' ? { enum: modelIds } : {}) } };
}

function withModels({ properties, required = [], ...body }: JsonSchema, modelIds: readonly string[]): JsonSchema {
  const model = {
    enum: required.includes('model') ? [...modelIds] : [...modelIds, null],
    description: 'the model served',
  };
  return { ...body, required, properties: { ...properties, model } };
}

function referTo(name: AnswerName): JsonSchema {
  return { $ref: `#/components/schemas/${name}` };
}

function json(schema: JsonSchema) {
  return { 'application/json': { schema } };
}
