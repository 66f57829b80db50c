/*
 * The type mapping. Types that are not listed travel as the text of their output function.
 */
#include "type_map.h"

Encoding
type_encoding(Oid type)
{
	switch (getBaseType(type))
	{
		case INT2OID:
			return Encoding::Int16;
		case INT4OID:
			return Encoding::Int32;
		case INT8OID:
			return Encoding::Int64;
		case OIDOID:
		case XIDOID:
		case CIDOID:
			return Encoding::Unsigned32;
		case FLOAT4OID:
			return Encoding::Float;
		case FLOAT8OID:
			return Encoding::Double;
		case BOOLOID:
			return Encoding::Boolean;
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
			return Encoding::Varlena;
		case NAMEOID:
			return Encoding::Name;
		case BYTEAOID:
			return Encoding::Bytes;
		case NUMERICOID:
			return Encoding::Numeric;
		case DATEOID:
			return Encoding::Date;
		case TIMEOID:
			return Encoding::Time;
		case TIMESTAMPOID:
			return Encoding::Timestamp;
		case TIMESTAMPTZOID:
			return Encoding::Timestamptz;
		case UUIDOID:
			return Encoding::Uuid;
		case JSONOID:
			return Encoding::JsonText;
		case JSONBOID:
			return Encoding::Jsonb;
		default:
			return Encoding::Output;
	}
}
