import { describeTokenRefiner } from '@ctkvr/testkit';
import { TokenRefiner } from '../src/index.js';

describeTokenRefiner(async ({ data, options }) => {
  const { keys, values, headDim, groupSize } = data;
  const { numSinkTokens, recentWindow, maxSelected } = options;
  return new TokenRefiner({
    keys,
    values,
    headDim,
    groupSize,
    numSinkTokens,
    recentWindow,
    maxSelected,
    backend: 'reference',
  });
});
