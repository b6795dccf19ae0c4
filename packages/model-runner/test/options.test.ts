import { resolveSelectorOptions } from '@ctkvr/core';
import { describeOptions } from '@ctkvr/testkit';
import * as runner from '../src/index.js';

const info = { numLayers: 1, numQueryHeads: 2, numKvHeads: 1, headDim: 32, kvBytesPerToken: 128 };

// What a loaded model and its sessions take: options.model.test.ts.
describeOptions(
  runner,
  {
    loadModel: (more) => runner.loadModel('no-such-model', more),
    estimateMemory: (more) =>
      runner.estimateMemory({ info, contextLength: 9, selector: resolveSelectorOptions(), ...more }),
    selectorFor: (more) => runner.selectorFor(info, more),
    documentTurn: (more) => runner.documentTurn({ document: 'text', question: 'why?', ...more }),
    documentKey: (more) => runner.documentKey({ model: { info, chatTemplate: null } as never, text: 'text', ...more }),
    SnapshotStore: (more) => new runner.SnapshotStore({ folder: '/nonexistent', ...more }),
    resolveModelFile: (more) => runner.resolveModelFile('no-such-model', more),
    downloadVerified: (more) =>
      runner.downloadVerified({ url: 'http://127.0.0.1:9/x', destination: '/nonexistent/x', ...more }),
    extractZipEntry: (more) =>
      runner.extractZipEntry({
        archive: '/nonexistent.zip',
        matches: () => true,
        destination: '/nonexistent/x',
        hash: { algorithm: 'sha256', hex: '' },
        ...more,
      }),
    findIndexedFile: (more) => runner.findIndexedFile({ project: 'p', filename: 'f', ...more }),
    hashFile: (more) => runner.hashFile('/nonexistent', 'sha256', more),
    npmTextFile: (more) => runner.npmTextFile({ packageName: 'p' } as never, more),
    readMobyDick: (more) => runner.readMobyDick(more),
    mobyDickFile: (more) => runner.mobyDickFile(more),
    askDownloadSources: (more) => runner.askDownloadSources(more),
    withFileLock: (more) => runner.withFileLock('/nonexistent/x', more, async () => {}),
  },
  [
    'Grammar',
    'Model',
    'ReadDocument',
    'Session',
    'cacheFolder',
    'catalogueModelPath',
    'checkQuestion', // takes the question alone
    'commonPrefixLength',
    'findCatalogueModel',
    'groupSizeOf', // reads two numbers of a model's info
    'isComplete',
    'jsonInLark', // takes the schema alone
    'listModels',
    'parseHubFile',
    'sha256',
    'withoutCredentials',
  ],
);
