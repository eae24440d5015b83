-- What the arguments of the functions may be, whoever calls: Postgres checks it before a function begins. Each constraint
-- is named by what it allows, since that name is the message. A function that a role may call takes no argument of a
-- plain type but uuid and boolean; a test keeps that.
-- A null passes where the text does not say "given"; NaN and infinity lie in none of these ranges.
CREATE DOMAIN unitask.given_id AS uuid CONSTRAINT "an id must be given" CHECK (VALUE IS NOT NULL);
CREATE DOMAIN unitask.lease_id AS bigint CONSTRAINT "a lease must be given, from 1" CHECK (VALUE IS NOT NULL AND VALUE >= 1);
CREATE DOMAIN unitask.pool AS text CONSTRAINT "gpu or api must be given" CHECK (VALUE IS NOT NULL AND VALUE IN ('gpu', 'api'));
CREATE DOMAIN unitask.name AS text
    CONSTRAINT "1 to 500 characters must be given" CHECK (VALUE IS NOT NULL AND length(VALUE) BETWEEN 1 AND 500);
CREATE DOMAIN unitask.title AS text CONSTRAINT "at most 1000 characters" CHECK (length(VALUE) <= 1000);
CREATE DOMAIN unitask.message AS text CONSTRAINT "at most 10000 characters" CHECK (length(VALUE) <= 10000);
-- A storage key: of no other place than the storage, and of no folder above.
CREATE DOMAIN unitask.location AS text CONSTRAINT "a key of the storage of 1 to 1024 characters" CHECK (
    length(VALUE) BETWEEN 1 AND 1024 AND VALUE !~ '^/|(^|/)\.\.?(/|$)|//|[\x01-\x1f\x7f\\]');
CREATE DOMAIN unitask.job_end AS text CONSTRAINT "succeeded, failed, cancelled, lost or unknown must be given"
    CHECK (VALUE IS NOT NULL AND VALUE IN ('succeeded', 'failed', 'cancelled', 'lost', 'unknown'));
CREATE DOMAIN unitask.account AS text CONSTRAINT "a provider or provider/user must be given"
    CHECK (VALUE IS NOT NULL AND VALUE ~ '^[A-Za-z0-9_.-]{1,100}(/[0-9a-f-]{36})?$');

CREATE DOMAIN unitask.lease_seconds AS double precision
    CONSTRAINT "more than 0 seconds and at most a day must be given" CHECK (VALUE IS NOT NULL AND VALUE > 0 AND VALUE <= 86400);
CREATE DOMAIN unitask.pause_seconds AS double precision
    CONSTRAINT "0 seconds to an hour must be given" CHECK (VALUE IS NOT NULL AND VALUE BETWEEN 0 AND 3600);
CREATE DOMAIN unitask.seconds AS double precision CONSTRAINT "0 seconds to a year" CHECK (VALUE BETWEEN 0 AND 31622400);
CREATE DOMAIN unitask.amount AS numeric CONSTRAINT "0 to 10 million credits" CHECK (VALUE BETWEEN 0 AND 10000000);
CREATE DOMAIN unitask.dollars AS double precision CONSTRAINT "0 to 10 million dollars" CHECK (VALUE BETWEEN 0 AND 10000000);
CREATE DOMAIN unitask.row_limit AS integer
    CONSTRAINT "0 to 10000 rows must be given" CHECK (VALUE IS NOT NULL AND VALUE BETWEEN 0 AND 10000);
CREATE DOMAIN unitask.count AS integer CONSTRAINT "0 to a billion" CHECK (VALUE BETWEEN 0 AND 1000000000);
CREATE DOMAIN unitask.tally AS integer
    CONSTRAINT "0 to a billion must be given" CHECK (VALUE IS NOT NULL AND VALUE BETWEEN 0 AND 1000000000);
CREATE DOMAIN unitask.given_count AS integer
    CONSTRAINT "1 to a billion must be given" CHECK (VALUE IS NOT NULL AND VALUE BETWEEN 1 AND 1000000000);

CREATE DOMAIN unitask.bytes AS bigint
    CONSTRAINT "0 bytes to 2^53 must be given" CHECK (VALUE IS NOT NULL AND VALUE BETWEEN 0 AND 9007199254740992);

CREATE DOMAIN unitask.ids AS uuid[] CONSTRAINT "a list of at most 20000 ids must be given" CHECK (
    VALUE IS NOT NULL AND cardinality(VALUE) <= 20000 AND coalesce(array_ndims(VALUE), 1) = 1
    AND array_position(VALUE, NULL) IS NULL);
CREATE DOMAIN unitask.lease_ids AS bigint[] CONSTRAINT "a list of at most 20000 leases must be given" CHECK (
    VALUE IS NOT NULL AND cardinality(VALUE) <= 20000 AND coalesce(array_ndims(VALUE), 1) = 1
    AND array_position(VALUE, NULL) IS NULL);
CREATE DOMAIN unitask.names AS text[] CONSTRAINT "a list of at most 2000 names" CHECK (
    cardinality(VALUE) <= 2000 AND coalesce(array_ndims(VALUE), 1) = 1 AND array_position(VALUE, NULL) IS NULL
    AND octet_length(array_to_string(VALUE, '')) <= 400000);
CREATE DOMAIN unitask.rows AS jsonb CONSTRAINT "a JSON list of at most 20000 objects must be given" CHECK (
    VALUE IS NOT NULL AND CASE WHEN jsonb_typeof(VALUE) = 'array' THEN jsonb_array_length(VALUE) <= 20000
        AND NOT jsonb_path_exists(VALUE, 'strict $[*] ? (@.type() != "object")') ELSE false END);
CREATE DOMAIN unitask.object AS jsonb CONSTRAINT "a JSON object of at most 4 MB"
    CHECK (jsonb_typeof(VALUE) = 'object' AND pg_column_size(VALUE) <= 4000000);
