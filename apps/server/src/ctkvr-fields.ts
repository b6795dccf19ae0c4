/** The fields inside `ctkvr`, our own addition to requests. */
import { z } from 'zod';
import { type FieldTable, honoured, schemaOf } from './field-rules.js';

export const ctkvrFields = {
  read_map: honoured(
    'CTkvr',
    z.boolean(),
    'default false; true = also tell which passages of 32 tokens were read, by their share of the attention',
  ),
} satisfies FieldTable;

export const ctkvrSchema = schemaOf(ctkvrFields, []);
