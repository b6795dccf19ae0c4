/** The tables of a result, whatever the suite. */
import type { SuiteResult } from '../suites/result.js';
import { batchTables } from './batch-tables.js';
import { benchTable } from './bench-table.js';
import { indexTables } from './index-tables.js';
import { kernelsTables } from './kernels-table.js';
import { loadTable } from './load-table.js';
import { sameBitsTable } from './same-bits-table.js';
import { sharedCoresTable } from './shared-cores-table.js';
import type { Table } from './table.js';

export function resultTables(result: SuiteResult): Table[] {
  switch (result.suite) {
    case 'decode':
      return [benchTable(`a token after ${result.context} tokens`, 'ms/token', result.rows)];
    case 'prefill':
      return [benchTable(`the first token of ${result.context} tokens`, 'first token ms', result.rows)];
    case 'batch':
      return batchTables(result);
    case 'index':
      return indexTables(result);
    case 'load':
      return [loadTable(result)];
    case 'kernels':
      return kernelsTables(result);
    case 'same-bits':
      return [sameBitsTable(result)];
    case 'shared-cores':
      return [sharedCoresTable(result)];
  }
}
