-- One login for each process, with the rights that it needs and no more, and the two databases. Run once by a superuser,
-- with the passwords in the environment (psql 15 or newer):
--   psql --set ON_ERROR_STOP=1 --file deployments/containers/logins.sql
\getenv owner_password OWNER_PASSWORD
\getenv operator_password OPERATOR_PASSWORD
\getenv gateway_password GATEWAY_PASSWORD
\getenv worker_password WORKER_PASSWORD
\getenv prefect_password PREFECT_PASSWORD

-- Made here, so that the owner, who migrates, need not be able to make roles.
CREATE ROLE unitask_owner NOLOGIN;
CREATE ROLE unitask_gateway NOLOGIN;
CREATE ROLE unitask_worker NOLOGIN;
CREATE ROLE unitask_reader NOLOGIN;

-- Owns the tables: `unitask deploy` and operators at a shell. Not named like the schema `unitask`, which its search path
-- would put before the tables.
CREATE ROLE unitask_admin LOGIN PASSWORD :'owner_password';
-- Maintenance and requests in the pool api. It ends the sessions of listeners that have stopped.
CREATE ROLE unitask_operator LOGIN PASSWORD :'operator_password'
    IN ROLE unitask_owner, pg_read_all_stats, pg_signal_backend;
CREATE ROLE unitask_gateway_login LOGIN PASSWORD :'gateway_password' IN ROLE unitask_gateway;
CREATE ROLE unitask_worker_login LOGIN PASSWORD :'worker_password' IN ROLE unitask_worker;
CREATE ROLE prefect LOGIN PASSWORD :'prefect_password';

CREATE DATABASE unitask OWNER unitask_admin;
CREATE DATABASE prefect OWNER prefect;
REVOKE CONNECT ON DATABASE unitask, prefect FROM PUBLIC;
GRANT CONNECT ON DATABASE unitask TO unitask_owner, unitask_gateway, unitask_worker, unitask_reader;
