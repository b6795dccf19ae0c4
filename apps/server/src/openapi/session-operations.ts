/** The routes of document sessions, where there are some. */
import { documentFields, documentSchema, renameFields, renameSchema } from '../sessions/read-document-request.js';
import { bodySchema } from './body-schema.js';
import type { Operation } from './operations.js';

const path = '/v1/sessions';
const snapshot = 'application/octet-stream';

export const sessionOperations: readonly Operation[] = [
  {
    method: 'post',
    path,
    summary: 'Begin to read a document',
    body: bodySchema(documentFields, documentSchema),
    otherBodies: ['multipart/form-data'],
    example: { text: 'Call me Ishmael.' },
    answer: 'session',
    status: 202,
    errors: [400, 404, 413, 415, 429, 503],
  },
  { method: 'get', path, summary: 'List the sessions', answer: 'sessions', errors: [503] },
  {
    method: 'post',
    path: `${path}/import`,
    summary: 'Make a session of a snapshot',
    query: ['name', 'model'],
    otherBodies: [snapshot],
    answer: 'session',
    status: 201,
    errors: [400, 404, 413, 429, 503],
  },
  { method: 'get', path: `${path}/{id}`, summary: 'Tell of a session', answer: 'session', errors: [404, 503] },
  {
    method: 'get',
    path: `${path}/{id}/events`,
    summary: 'Tell of a session whenever it has changed, until it is read',
    answers: 'text/event-stream',
    errors: [404, 503],
  },
  {
    method: 'patch',
    path: `${path}/{id}`,
    summary: 'Rename a session',
    body: bodySchema(renameFields, renameSchema),
    answer: 'session',
    errors: [400, 404, 413, 415, 503],
  },
  { method: 'delete', path: `${path}/{id}`, summary: 'Delete a session', answer: 'sessionDeleted', errors: [404, 503] },
  {
    method: 'post',
    path: `${path}/{id}/fork`,
    summary: 'Make a second session of the same document',
    answer: 'session',
    status: 201,
    errors: [400, 404, 429, 503],
  },
  {
    method: 'get',
    path: `${path}/{id}/passages`,
    summary: 'The document in passages, as read maps count them',
    answer: 'passages',
    errors: [404, 429, 503],
  },
  {
    method: 'get',
    path: `${path}/{id}/export`,
    summary: 'The snapshot of a session',
    answers: snapshot,
    errors: [404, 503],
  },
];
